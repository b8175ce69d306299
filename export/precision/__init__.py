"""Precisions: graphs of lower precision made from the float32 step, and what each of them costs."""
