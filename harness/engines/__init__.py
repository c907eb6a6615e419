"""Where units of work run: in processes of this machine, on a Ray cluster, as Slurm jobs."""
