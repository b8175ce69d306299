"""Running a bundle on an NVIDIA GPU: the TensorRT that is installed, the driver, the engines of a bundle."""
