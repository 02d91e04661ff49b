"""`distill serve --web`: browser pages for the queue, the jobs and the data."""
