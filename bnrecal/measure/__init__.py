"""One cell measured: a network, a task and an estimator, timed and scored."""
