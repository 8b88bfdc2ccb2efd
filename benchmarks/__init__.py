"""minbert beside the libraries that one would otherwise use, measured in one run.

A library that is not installed is left out: pip install transformers sentence-transformers, and for
onnxruntime's rows pip install onnx onnxscript onnxruntime.

python -m benchmarks run --data-dir real-data      measure, and write benchmarks/results/NAME.json
python -m benchmarks growth                        time and memory: length, batch, layers, data
python -m benchmarks length                        of ModernBERT, up to texts of 8,192 tokens
python -m benchmarks gpu --data-dir real-data      fine-tuning bert-base on a GPU
python -m benchmarks host                          what a training step has a GPU's host do
python -m benchmarks drift runs/NAME               answers of trained runs in bfloat16
python -m benchmarks table                         draw the README's table and figures from results
"""
