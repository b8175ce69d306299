"""Pictures that the verbs draw, with matplotlib."""
