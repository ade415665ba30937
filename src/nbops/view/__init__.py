"""Floor 6: how values look, as text, HTML and figures. The only home of plotly and ipywidgets."""
