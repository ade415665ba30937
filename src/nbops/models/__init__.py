"""Registered models: exporters, parity, bundles, versions, aliases, loading.

Importing any module here loads neither torch nor ONNX Runtime; they load when a model is exported or run.
"""
