"""The bundled ONNX model and its record; made by tools/export_model.py."""
