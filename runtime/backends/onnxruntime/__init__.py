"""ONNX Runtime: its sessions, and the backend of the CPU."""
