"""Every rule on plain numbers, without torch: a case on which it fires, and cases on which it must not."""
