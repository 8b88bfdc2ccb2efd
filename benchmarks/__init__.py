"""minbert beside the libraries that one would otherwise use, measured in one run.

python -m benchmarks run --data-dir real-data      measure, and write benchmarks/results/NAME.json
python -m benchmarks growth                        time and memory against length, batch, layers
python -m benchmarks table                         draw the README's table and figures from results
"""
