"""The engines below store and admission: one seam, `Database.transaction`, and the dialects behind it."""
