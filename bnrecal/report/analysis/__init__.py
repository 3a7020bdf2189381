"""What follows from rows: tables as data, laws, intervals, findings, advice."""
