"""The worker: a Celery application around `accentor_worker.runner.run_shard`."""
