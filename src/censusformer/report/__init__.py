"""The page about a run: tables (`tables`), sentences (`findings`), figures (`figures`) and the page (`page`)."""
