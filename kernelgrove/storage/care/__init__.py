"""Looking after a grove: is it sound, a copy of it, what nothing refers to, jobs that were given up, an orderly pause.

=======================================  ======================================================
``verify.verify(store)``                 what is wrong with the file, one ``Finding`` each
``backup.backup(store, path)``           a copy, while other processes go on writing
``unused.drop_unused(store, dry_run)``   drops rows that nothing refers to
``control.retry(store, search)``         failed and dead jobs back to the queue
``control.ask_to_pause(store, search)``  tells the process that runs a search to finish and stop
=======================================  ======================================================
"""
