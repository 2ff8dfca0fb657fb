# Everything on JAX, for processors; whoever runs it is not root.
#
#     docker build --tag keras-vision .
#     docker run --rm --volume "$PWD:/home/user/work" keras-vision derma --augment --data synthetic --smoke --out runs/first
#     docker run --rm --volume "$PWD:/home/user/work" keras-vision predict runs/first photo.jpg
#
# The folder has to be writable for the user 1000, or add --user "$(id -u)".
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY requirements requirements
COPY keras_vision keras_vision
RUN python -m venv /opt/keras-vision \
    && /opt/keras-vision/bin/python -m pip install --no-cache-dir --no-deps . -r requirements/jax.txt

FROM python:3.12-slim
COPY --from=build /opt/keras-vision /opt/keras-vision
RUN useradd --uid 1000 --create-home user
ENV PATH=/opt/keras-vision/bin:$PATH KERAS_BACKEND=jax
USER user
WORKDIR /home/user/work
ENTRYPOINT ["keras-vision"]
CMD ["--help"]
