"""What a watch shows of a training while it runs."""
