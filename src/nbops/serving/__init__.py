"""Floor 4: endpoints of their own process, beside the kernel. The only home of uvicorn, httptools, uvloop and httpx."""
