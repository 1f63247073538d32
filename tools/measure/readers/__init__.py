"""One file per point-cloud format; each has `read(path) -> Raw`. `io.read` chooses by suffix and makes the cloud."""
