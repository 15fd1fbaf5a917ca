"""What each command does: read its arguments, call the engine or the store, render. No logic of its own."""
