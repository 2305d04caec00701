"""A versecraft plugin: what a haiku would keep of a poem."""
