"""What every program's command line shares; nothing here imports torch."""
