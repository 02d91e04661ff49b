"""`distill serve --web`: pages for the queue, the jobs and the data, for a browser."""
