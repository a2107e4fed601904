"""One module a step: it reads files, calls the libraries, writes files."""
