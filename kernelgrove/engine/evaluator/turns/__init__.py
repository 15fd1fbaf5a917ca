"""Who waits for whom: candidates in one judge, and judges that share a GPU."""
