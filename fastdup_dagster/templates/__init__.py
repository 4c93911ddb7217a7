"""Page templates (Jinja2, autoescape on) and their stylesheet."""
