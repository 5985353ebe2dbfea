"""What a person types beside the engines' own commands: a module a command."""
