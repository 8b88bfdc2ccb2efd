"""Handing a trained run on: folders that transformers, sentence-transformers and onnxruntime load.

from multitask.export.folders import export_run
export_run("runs/demo", "my-sst", task="sst")
"""
