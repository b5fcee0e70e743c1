"""Small changes to the code that decides: does a test notice? `python -m tests.mutation --help`."""
