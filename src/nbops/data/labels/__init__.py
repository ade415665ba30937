"""Labels: which are probably wrong, how far annotators agree, and labels out of many weak ones."""
