"""How fast is it? Each question is a file with a function `answer(bench)`.

Read `bench.py` and `side_by_side.py` first. Run `make bench`, or one question alone:

    python -m benchmarks --only publish_one --brokers redis
"""
