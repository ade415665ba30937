"""What one writes by hand: uvicorn and ONNX Runtime, a session call per request. ``plain_server.py MODEL PORT``"""

import json
import sys

import numpy as np
import onnxruntime
import uvicorn

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])


async def app(scope, receive, send):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status = 200
    try:
        tensor = json.loads(body)["inputs"][0]
        x = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        y = session.run(None, {"x": x})[0]
        output = {"name": "y", "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}
        answer = {"model_name": "m", "model_version": "1", "outputs": [output]}
    except (ValueError, KeyError) as error:
        status, answer = 400, {"error": str(error)}
    data = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), http="httptools", loop="uvloop", lifespan="off", log_level="error")
