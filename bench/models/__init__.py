"""Generators of the ONNX models that the tests, the demo and the benchmarks deploy."""
