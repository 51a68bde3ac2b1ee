"""Signed model releases over the air: what publisher and device share lies here, what each alone needs in its folder."""
