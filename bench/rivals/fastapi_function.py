"""The do-it-yourself answer for Python: FastAPI and uvicorn around the same function, behind the same JSON as Mayfly's v2.

FUNCTION names the folder that is deployed, which holds function.py, the model and example.json.
"""

import os
import sys

import numpy
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

FOLDER = os.environ["FUNCTION"]
sys.path.insert(0, FOLDER)
import function


class Context:
    def path(self, name):
        return os.path.join(FOLDER, name)


STATE = function.load(Context())
app = FastAPI()


@app.post("/")
async def infer(request: Request) -> JSONResponse:
    (given,) = (await request.json())["inputs"]
    x = numpy.array(given["data"], dtype="f4").reshape(given["shape"])
    result = function.predict({"x": x}, STATE, None)["probability"]
    output = {"name": "probability", "datatype": "FP64", "shape": list(result.shape), "data": result.tolist()}
    return JSONResponse({"model_name": "python", "outputs": [output]})
