"""From recorded history to a checkpoint."""
