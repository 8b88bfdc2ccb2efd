"""The live page's server: what it answers, and what it refuses."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from shown import several_tasks, unpacked
from transformers import AutoTokenizer, BertForMaskedLM

from multitask import Predictor, training
from multitask.inside import live
from multitask.inside.asked import Answerer, Changes, Question, guesses
from multitask.inside.edits import Edit
from multitask.inside.explain import explain
from multitask.inside.live import LiveServer, live_server
from multitask.inside.page import PageSettings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        folder = tmp_path_factory.mktemp("live")
        return several_tasks(folder, epochs=1, pair="cross")


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def echo():
    with running(LiveServer(b"<p>page</p>", lambda question: question.task.encode())) as server:
        yield server


def asked(server, method="POST", path=None, body=b'{"task": "x"}', **headers):
    """Status, headers and body of a request as the page would make it, but for what is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    given = {"Content-Type": "application/json", **headers}
    connection.request(method, path or f"/{server.secret}/ask", body, given)
    reply = connection.getresponse()
    try:
        return reply.status, dict(reply.headers), reply.read()
    finally:
        connection.close()


def test_the_page_and_a_question(echo):
    status, headers, body = asked(echo, "GET", f"/{echo.secret}/", b"")
    assert (status, body) == (200, b"<p>page</p>") and echo.address.endswith(f"/{echo.secret}/")
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Python" not in headers["Server"] and "Access-Control-Allow-Origin" not in headers
    assert asked(echo)[::2] == (200, b"x")
    assert echo.server_address[0] == "127.0.0.1"


REFUSED = {
    "another host": ({"Host": "evil.example"}, 403, b"alone, and was called"),
    "another port": ({"Host": "127.0.0.1:1"}, 403, b"alone, and was called"),
    "another site": ({"Origin": "http://evil.example"}, 403, b"may ask nothing"),
    "a file": ({"Origin": "null"}, 403, b"may ask nothing"),
    "a wrong word": ({"path": "/guess/ask"}, 404, b"open the address"),
    "no word": ({"path": "/"}, 404, b"open the address"),
    "a form": ({"Content-Type": "text/plain"}, 415, b"application/json"),
    "a large body": ({"body": b"x" * 70_000}, 413, b"at most 65536"),
    "no length": ({"Transfer-Encoding": "chunked", "body": None}, 411, b"Content-Length"),
    "no JSON": ({"body": b"{"}, 400, b"not a JSON file"),
    "no text": ({"body": b"\xff"}, 400, b"UTF-8"),
    "a wrong kind": ({"body": b'{"texts": 3}'}, 400, b"texts"),
    "too many texts": ({"body": b'{"texts": ["a", "b", "c"]}'}, 400, b"texts"),
    "too many steps": ({"body": b'{"steps": 1000}'}, 400, b"steps"),
    "a deep one": ({"body": b"[" * 60_000}, 400, b"nested too deep"),
    "no such method": ({"method": "PUT"}, 501, b""),
    "another page": ({"method": "GET", "path": "/{word}/x"}, 404, b"one folder up"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(echo, case):
    given, expected, reason = REFUSED[case]
    given = {k: v.format(word=echo.secret) if k == "path" else v for k, v in given.items()}
    status, _, body = asked(echo, **given)
    assert status == expected and reason in body
    assert asked(echo)[0] == 200, "it goes on"


def test_localhost_and_its_own_origin_are_welcome(echo):
    own = f"localhost:{echo.server_port}"
    assert asked(echo, Host=own, Origin=f"http://{own}")[0] == 200


def test_a_flood_is_turned_away(monkeypatch):
    go, inside = threading.Event(), threading.Event()

    def slow(question):
        inside.set()
        go.wait(20)
        return b"done"

    with running(LiveServer(b"", slow)) as server:
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(asked(server)))
            for _ in range(live.WAITING + 3)
        ]
        threads[0].start()
        assert inside.wait(20)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(0.3)
            if len(found) == 3:
                break
        while len(found) < 3:
            threads[-1].join(0.05)
        assert [status for status, _, _ in found] == [503] * 3
        assert found[0][1]["Retry-After"] == "1" and b"ask again in a moment" in found[0][2]
        go.set()
        for thread in threads:
            thread.join(20)
        assert sorted(status for status, _, _ in found) == [200] * live.WAITING + [503] * 3


def test_silent_connections_take_no_more_than_their_part(echo, monkeypatch):
    silent = [socket.create_connection(echo.server_address) for _ in range(live.AT_ONCE)]
    try:
        for _ in range(200):
            if echo._connections._value == 0:
                break
            threading.Event().wait(0.02)
        late = socket.create_connection(echo.server_address)
        assert b"503 Busy" in late.recv(100)
        late.close()
    finally:
        for each in silent:
            each.close()
    for _ in range(200):
        if echo._connections._value == live.AT_ONCE:
            break
        threading.Event().wait(0.02)
    assert asked(echo)[0] == 200


def test_a_port_that_is_taken_is_an_error(echo):
    with pytest.raises(ValueError, match="cannot be had"):
        LiveServer(b"", lambda question: b"", echo.server_port)
    with pytest.raises(ValueError, match="is no port"):
        LiveServer(b"", lambda question: b"", 99_999)


def test_a_bug_is_told_and_the_server_goes_on(capsys):
    with running(LiveServer(b"", lambda question: {}[question.task])) as server:
        status, _, body = asked(server)
        assert status == 500 and body == b"this went wrong: KeyError: 'x'"
        assert asked(server)[0] == 500


@pytest.fixture(scope="module")
def answerer(run):
    return Answerer([run, run], PageSettings(rows=12, explain=2))


def reply(answerer, **question):
    return unpacked(answerer.answer(Question(**question)))


def test_all_heads_answer_as_predict_does(run, answerer):
    predictor, texts = Predictor(run), ["bon superb", "awful dot"]
    value, _ = reply(answerer, texts=texts, task="sst")
    assert [each["run"] for each in value["runs"]] == [0, 1]
    for each in value["runs"]:
        assert each["answers"].keys() == {"sst", "para", "sts"}
        for name, found in each["answers"].items():
            rows = [texts[0]] if name == "sst" else [tuple(texts)]
            (expected,) = predictor.predict(name, rows)
            assert found["answer"] == pytest.approx(expected.value, abs=1e-4)
            if name != "sts":
                chance = found["chances"][int(expected.value)]
                assert chance == pytest.approx(expected.probability, abs=1e-4)
    value, _ = reply(answerer, texts=["bon"], task="para", run=1)
    assert [each["run"] for each in value["runs"]] == [1]
    assert value["runs"][0]["answers"].keys() == {"sst"} and value["runs"][0]["inside"] is None


def test_pairs_may_be_read_in_two_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    run = several_tasks(tmp_path, epochs=1, pair="cross", pair_of={"sts": "cosine"})
    predictor, texts = Predictor(run), ["bon superb", "awful dot"]
    value, _ = reply(Answerer([run], PageSettings(rows=4, explain=0)), texts=texts, task="sst")
    for name in ("para", "sts"):
        (expected,) = predictor.predict(name, [tuple(texts)])
        found = value["runs"][0]["answers"][name]["answer"]
        assert found == pytest.approx(expected.value, abs=1e-4)


def test_the_inside_is_that_of_explain(run, answerer):
    texts = ["bon superb dot", "awful"]
    changes = Changes(masked=[2], swapped=[(1, 3)], heads_off=[(0, 1)], layers_off=[1])
    edit = Edit(masked=(2,), swapped=((1, 3),), heads_off=((0, 1),), layers_off=(1,))
    value, data = reply(answerer, texts=texts, task="para", changes=changes, steps=4, run=0)
    (expected,) = explain(run, [tuple(texts)], task="para", steps=4, edit=edit)
    shown = value["runs"][0]["inside"]
    np.testing.assert_allclose(shown["outputs"], expected.outputs, atol=1e-4)
    (ours,), (theirs,) = shown["sequences"], expected.sequences
    assert ours["tokens"] == list(theirs.tokens) and ours["tokens"][2] == "[MASK]"
    np.testing.assert_allclose(ours["integrated"], theirs.integrated_gradients, atol=1e-3)
    assert len(data) == theirs.attentions.size and len(ours["neighbours"][1]) == 3
    # Another head of the same form has the same changes, and one of single texts its own tokens.
    (similar,) = explain(run, [tuple(texts)], task="sts", steps=0, edit=edit)
    assert value["runs"][0]["answers"]["sts"]["answer"] == pytest.approx(similar.answer, abs=1e-3)
    parts = Edit(heads_off=edit.heads_off, layers_off=edit.layers_off)
    (single,) = explain(run, texts[:1], task="sst", steps=0, edit=parts)
    found = value["runs"][0]["answers"]["sst"]["chances"]
    np.testing.assert_allclose(found, single.probabilities, atol=1e-3)


def test_rows_are_explained_too(answerer):
    value, _ = reply(answerer, task="sts", row=3, run=0, steps=2)
    found = answerer.looked[0].found["sts"]
    assert value["runs"][0]["inside"]["texts"] == list(found.examples[3].texts)
    for wrong, reason in (
        ({"row": 12, "task": "sts"}, "no row 12"),
        ({"row": 0, "task": "cola"}, "no rows of task 'cola'"),
        ({"run": 7}, "has 2 runs"),
        ({"texts": ["a"], "task": "sst", "changes": Changes(layers_off=[9])}, "layer 9"),
        ({"texts": ["a"], "task": "sst", "target": 77}, "target is 77"),
    ):
        with pytest.raises(ValueError, match=reason):
            reply(answerer, **wrong)


def test_masked_tokens_are_guessed_as_by_transformers(write_bert, tmp_path):
    from minbert import load_backbone

    write_bert(tmp_path)
    backbone = load_backbone(tmp_path, mlm_head=True)
    found = guesses(backbone, ["a b [MASK] c", "d [MASK]"])
    theirs = BertForMaskedLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    encoded = tokenizer(["a b [MASK] c"], ["d [MASK]"], return_tensors="pt")
    with torch.no_grad():
        chances = theirs(**encoded).logits.softmax(-1)[encoded.input_ids == tokenizer.mask_token_id]
    best, which = chances.topk(5)
    for ours, values, ids in zip(found, best, which, strict=True):
        assert [token for token, _ in ours] == tokenizer.convert_ids_to_tokens(ids)
        assert [chance for _, chance in ours] == pytest.approx(values.tolist(), abs=1e-3)
    assert guesses(backbone, ["a b c"]) == []


def test_a_live_page_may_ask_its_server_alone(run):
    settings = PageSettings(rows=4, explain=0)
    with running(live_server([run], settings)) as server:
        status, _, body = asked(server, "GET", f"/{server.secret}/", b"")
        assert status == 200 and b"; connect-src 'self'\"" in body
        question = {"texts": ["bon"], "task": "sst"}
        status, headers, body = asked(server, body=json.dumps(question).encode())
        assert status == 200 and headers["Content-Type"] == "application/octet-stream"
        assert unpacked(body)[0]["runs"][0]["inside"]["sequences"][0]["tokens"][1] == "bon"
