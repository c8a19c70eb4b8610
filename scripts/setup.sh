#!/usr/bin/env bash
# Installs what a fresh Debian 12 machine lacks to build and test Mayfly. Idempotent: with nothing
# missing it answers in well under a second. Needs root (or sudo) only for missing packages.
#
#   scripts/setup.sh          what `make build`, `make demo` and `make test` need
#   scripts/setup.sh --bench  also the rivals that `make bench` measures against
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  clang-19 lld-19 libclang-rt-19-dev clang-tidy-19 clang-format-19 llvm-19 cmake ninja-build ccache make
  libboost1.81-dev libsqlite3-dev libssl-dev libexpat1-dev zlib1g-dev libseccomp-dev libspdlog-dev libfmt-dev
  libcli11-dev libtomlplusplus-dev libyaml-dev libsimdjson-dev nlohmann-json3-dev prometheus-cpp-dev doctest-dev
  libonnx-dev libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc
  liblinear-dev libfaiss-dev libblas-dev liblapack-dev
  libturbojpeg0-dev libspng-dev libpython3-dev python3-pip libhowardhinnant-date-dev tzdata
  python3 python3-venv curl ca-certificates
  alsa-utils # recorded words for examples/voice
)
[ "${1:-}" = --bench ] && packages+=(nginx-light wrk)

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  local missing=()
  local installed
  # dpkg-query fails when it has never heard of one of them.
  installed=$({ dpkg-query -W -f='${Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true; } |
    sed -n 's/^install ok installed //p')
  for package in "${packages[@]}"; do
    grep -qx "$package" <<<"$installed" || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A Python environment, rebuilt when its list of requirements changes: "venv" for the model generators
# and the end-to-end tests, "sdk-venv" for the Python SDK's tests and the examples.
make_venv() { # NAME REQUIREMENTS
  local venv=.deps/$1 requirements=$2 stamp
  stamp=$(sha256sum "$requirements")
  [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ] && return
  say "creating $venv"
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  "$venv/bin/pip" install -q --require-virtualenv -r "$requirements"
  echo "$stamp" >"$venv/stamp"
}

# ONNX Runtime: the official build for Linux, carried by the `onnxruntime` wheel, pinned by digest.
# The wheel has no headers. Debian 13's development package has; the C API is append-only, so its
# headers (API 21) work with every later library.
onnxruntime_version=1.31.1
headers_version=1.21.0+dfsg-1

fetch_onnxruntime() {
  local machine wheel_tag wheel_sha
  machine=$(uname -m)
  case $machine in
    x86_64)
      wheel_tag=manylinux_2_28_x86_64
      wheel_sha=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f ;;
    aarch64)
      wheel_tag=manylinux_2_28_aarch64
      wheel_sha=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3 ;;
    *) say "no ONNX Runtime build is known for $machine"; exit 1 ;;
  esac
  local root=.deps/onnxruntime
  [ "$(cat $root/stamp 2>/dev/null)" = "$wheel_sha $headers_version" ] && return
  # A system-wide installation (headers and library) is used instead where there is one.
  if [ -f /usr/include/onnxruntime/onnxruntime_c_api.h ] && ldconfig -p | grep -q 'libonnxruntime\.so '; then return; fi
  say "fetching ONNX Runtime $onnxruntime_version"
  rm -rf $root && mkdir -p $root/wheel $root/lib
  .deps/venv/bin/pip download -q --no-deps --only-binary=:all: --python-version 3.11 \
    --platform $wheel_tag -d $root/wheel "onnxruntime==$onnxruntime_version"
  echo "$wheel_sha  $(ls $root/wheel/*.whl)" | sha256sum --check --quiet
  .deps/venv/bin/python -m zipfile -e $root/wheel/*.whl $root/wheel/out
  mv $root/wheel/out/onnxruntime/capi/libonnxruntime.so.$onnxruntime_version $root/lib/
  mv $root/wheel/out/onnxruntime/{LICENSE,ThirdPartyNotices.txt} $root/
  ln -s libonnxruntime.so.$onnxruntime_version $root/lib/libonnxruntime.so.1
  ln -s libonnxruntime.so.1 $root/lib/libonnxruntime.so
  rm -rf $root/wheel
  fetch_onnxruntime_headers $root
  echo "$wheel_sha $headers_version" >$root/stamp
}

# The headers come through a private source list for Debian 13 that takes its mirror from the
# machine's own sources; nothing of that suite is installed.
fetch_onnxruntime_headers() {
  local root=$1 apt_dir mirror
  apt_dir=$(mktemp -d)
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -1)
  [ -n "$mirror" ] || { say "no Debian mirror found in the machine's apt sources"; exit 1; }
  mkdir -p "$apt_dir"/{lists/partial,cache/archives/partial,parts}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt_dir/sources.list"
  local options=(-o "Dir::Etc::SourceList=$apt_dir/sources.list" -o "Dir::Etc::SourceParts=$apt_dir/parts"
    -o "Dir::State::Lists=$apt_dir/lists" -o "Dir::Cache=$apt_dir/cache" -o APT::Sandbox::User=root)
  apt-get -qq "${options[@]}" update
  (cd "$apt_dir" && apt-get -qq "${options[@]}" download "libonnxruntime-dev=$headers_version" >/dev/null)
  dpkg -x "$apt_dir"/libonnxruntime-dev_*.deb "$apt_dir/headers"
  mv "$apt_dir/headers/usr/include/onnxruntime" "$root/include"
  rm -rf "$apt_dir"
}

# Apache Arrow and Parquet for C++: the libraries and headers that the `pyarrow` wheel carries, pinned by
# digest. Only jobs over tables open them, in their jails.
arrow_version=26.0.1

fetch_arrow() {
  local machine wheel_sha
  machine=$(uname -m)
  case $machine in
    x86_64) wheel_sha=39cb0f2418282c24bea6ceda77b03e5a8f0a5766b63a8bf194d4e2a2c423548c ;;
    aarch64) wheel_sha=22a96a225de107eb9acd1ad9a818198ca832df2a4c0952412f754a7ed2105a98 ;;
    *) say "no Apache Arrow build is known for $machine"; exit 1 ;;
  esac
  local root=.deps/arrow library
  [ "$(cat $root/stamp 2>/dev/null)" = "$wheel_sha" ] && return
  say "fetching Apache Arrow $arrow_version"
  rm -rf $root && mkdir -p $root/wheel $root/lib $root/include
  .deps/venv/bin/pip download -q --no-deps --only-binary=:all: --python-version 3.11 \
    --platform "manylinux_2_28_$machine" -d $root/wheel "pyarrow==$arrow_version"
  echo "$wheel_sha  $(ls $root/wheel/*.whl)" | sha256sum --check --quiet
  .deps/venv/bin/python -m zipfile -e $root/wheel/*.whl $root/wheel/out
  for library in libarrow libparquet; do
    mv "$root/wheel/out/pyarrow/$library.so.2600" $root/lib/
  done
  mv $root/wheel/out/pyarrow/include/{arrow,parquet} $root/include/
  mv $root/wheel/out/pyarrow-$arrow_version.dist-info/licenses/{LICENSE,NOTICE}.txt $root/
  rm -rf $root/wheel
  echo "$wheel_sha" >$root/stamp
}

# XGBoost: the library that the `xgboost-cpu` wheel carries, with its OpenMP, pinned by digest. The wheel has
# no headers; runner/train/xgboost_library.h declares what is called. Only training opens it, in its jails.
xgboost_version=3.4.1

fetch_xgboost() {
  local machine wheel_sha
  machine=$(uname -m)
  case $machine in
    x86_64) wheel_sha=1f16331f5c6beb2b40fbd4bf2834333062d93c9eb38b76186a5c206841dc1809 ;;
    aarch64) wheel_sha=47b81860b18056f9425b34fe2905343bc7ee0118122ae09cf2e31c305ed49877 ;;
    *) say "no XGBoost build is known for $machine"; exit 1 ;;
  esac
  local root=.deps/xgboost
  [ "$(cat $root/stamp 2>/dev/null)" = "$wheel_sha" ] && return
  say "fetching XGBoost $xgboost_version"
  rm -rf $root && mkdir -p $root/wheel $root/xgboost/lib
  .deps/venv/bin/pip download -q --no-deps --only-binary=:all: --python-version 3.13 \
    --platform "manylinux_2_28_$machine" -d $root/wheel "xgboost-cpu==$xgboost_version"
  echo "$wheel_sha  $(ls $root/wheel/*.whl)" | sha256sum --check --quiet
  .deps/venv/bin/python -m zipfile -e $root/wheel/*.whl $root/wheel/out
  mv $root/wheel/out/xgboost/lib/libxgboost.so $root/xgboost/lib/
  mv $root/wheel/out/xgboost_cpu.libs $root/
  mv $root/wheel/out/xgboost_cpu-$xgboost_version.dist-info/licenses/LICENSE $root/
  rm -rf $root/wheel
  echo "$wheel_sha" >$root/stamp
}

# cmfrec: matrix factorisation. Its C sources come in the package's source archive, whose digest pip checks before it
# looks inside; built once, for one thread, into an archive that libmayfly-train.so alone is linked with.
# runner/train/mf_trainer.cc declares what is called.
cmfrec_version=3.5.1.post14
cmfrec_sha=0abce638d1fefe754d6387ae673daccf5bced4a1341c014e93f9287bbb2b076d

fetch_cmfrec() {
  local root=.deps/cmfrec source
  [ "$(cat $root/stamp 2>/dev/null)" = "$cmfrec_sha" ] && return
  say "building cmfrec $cmfrec_version"
  rm -rf $root && mkdir -p $root/source $root/lib
  echo "cmfrec==$cmfrec_version --hash=sha256:$cmfrec_sha" >$root/source/requirements.txt
  .deps/venv/bin/pip download -q --no-deps --no-binary=cmfrec --require-hashes -d $root/source -r $root/source/requirements.txt
  echo "$cmfrec_sha  $(ls $root/source/*.tar.gz)" | sha256sum --check --quiet
  tar -xzf $root/source/*.tar.gz -C $root/source --strip-components=1
  for source in collective common helpers lbfgs offsets; do
    clang-19 -std=c99 -O3 -fPIC -fvisibility=hidden -w -c $root/source/src/$source.c -o $root/source/$source.o
  done
  ar rcs $root/lib/libcmfrec.a $root/source/*.o
  mv $root/source/LICENSE $root/
  rm -rf $root/source
  echo "$cmfrec_sha" >$root/stamp
}

mkdir -p .deps
install_packages
make_venv venv scripts/requirements.txt
make_venv sdk-venv scripts/requirements-sdk.txt
fetch_onnxruntime
fetch_arrow
fetch_xgboost
fetch_cmfrec
