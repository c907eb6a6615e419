"""What commands say when they fail."""


def one_line(errors):
    """Nothing else is said."""
    assert errors.startswith("harness: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    return errors
