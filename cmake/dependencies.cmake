find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(EXPAT REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(simdjson REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(Protobuf REQUIRED)
find_package(date REQUIRED)  # time zones, of the system's database
find_package(PkgConfig REQUIRED)
pkg_check_modules(seccomp REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(turbojpeg REQUIRED IMPORTED_TARGET libturbojpeg)
pkg_check_modules(spng REQUIRED IMPORTED_TARGET spng)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
pkg_check_modules(yaml REQUIRED IMPORTED_TARGET yaml-0.1)

# gRPC. Its pkg-config file names every library below it.
find_path(GRPCPP_INCLUDE grpcpp/grpcpp.h REQUIRED)
find_library(GRPCPP_LIBRARY grpc++ REQUIRED)
find_library(GRPC_LIBRARY grpc REQUIRED)
find_library(GPR_LIBRARY gpr REQUIRED)
find_library(ABSL_SYNCHRONIZATION_LIBRARY absl_synchronization REQUIRED)  # used by its headers
add_library(grpcpp INTERFACE)
target_include_directories(grpcpp SYSTEM INTERFACE ${GRPCPP_INCLUDE})
target_link_libraries(grpcpp INTERFACE ${GRPCPP_LIBRARY} ${GRPC_LIBRARY} ${GPR_LIBRARY}
  ${ABSL_SYNCHRONIZATION_LIBRARY})

# ONNX Runtime: a system-wide one where there is one, else what scripts/setup.sh fetched. The library
# is opened at run time by mayfly-runner (its telemetry must be switched off before it is loaded), so
# only the headers are needed to build.
find_path(ONNXRUNTIME_INCLUDE onnxruntime_c_api.h
  PATHS ${CMAKE_SOURCE_DIR}/.deps/onnxruntime/include PATH_SUFFIXES onnxruntime REQUIRED)
find_file(ONNXRUNTIME_LIBRARY libonnxruntime.so.1
  PATHS ${CMAKE_SOURCE_DIR}/.deps/onnxruntime/lib PATH_SUFFIXES lib lib64 REQUIRED)
add_library(onnxruntime_headers INTERFACE)
target_include_directories(onnxruntime_headers SYSTEM INTERFACE ${ONNXRUNTIME_INCLUDE})

# Apache Arrow and Parquet, as scripts/setup.sh fetched them. Only libmayfly-batch.so links them.
find_path(ARROW_INCLUDE arrow/api.h PATHS ${CMAKE_SOURCE_DIR}/.deps/arrow/include REQUIRED NO_DEFAULT_PATH)
foreach(name arrow parquet)
  string(TOUPPER ${name} upper)
  find_file(${upper}_LIBRARY lib${name}.so.2600 PATHS ${CMAKE_SOURCE_DIR}/.deps/arrow/lib REQUIRED NO_DEFAULT_PATH)
  add_library(${name} SHARED IMPORTED)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${${upper}_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${ARROW_INCLUDE})
endforeach()
target_link_libraries(parquet INTERFACE arrow)

# The ONNX graph format (protobuf classes): Debian's libonnx.
find_library(ONNX_PROTO onnx_proto REQUIRED)
add_library(onnx_proto INTERFACE)
target_compile_definitions(onnx_proto INTERFACE ONNX_ML=1 ONNX_NAMESPACE=onnx)
target_link_libraries(onnx_proto INTERFACE ${ONNX_PROTO} protobuf::libprotobuf)

# CPython for functions: Debian's, whatever another one comes first in PATH. Only libmayfly-python.so
# links it.
set(Python3_EXECUTABLE /usr/bin/python3)
set(Python3_FIND_STRATEGY LOCATION)
find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter Development.Embed)
set(MAYFLY_SYSTEM_LIBRARIES /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE})
# Where packages come from when nobody says so is pip's to say.
execute_process(COMMAND ${Python3_EXECUTABLE} -I -c
"import os, pip; from pip._internal.models.index import PyPI as p
print(p.simple_url, p.file_storage_domain, os.path.dirname(os.path.dirname(pip.__file__)), sep=';')"
  OUTPUT_VARIABLE pip_facts OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(GET pip_facts 0 MAYFLY_PIP_INDEX)
list(GET pip_facts 1 MAYFLY_PIP_FILES)
list(GET pip_facts 2 MAYFLY_PIP_FOLDER)
configure_file(${CMAKE_SOURCE_DIR}/cmake/python_version.h.in
  ${CMAKE_BINARY_DIR}/generated/core/python_version.h @ONLY)

# Beside the executables, so that the build folder is laid out like an installation:
# bin/mayfly, bin/mayfly-runner, lib/mayfly/libonnxruntime.so.1
get_filename_component(onnxruntime_real ${ONNXRUNTIME_LIBRARY} REALPATH)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib/mayfly/batch)
file(CREATE_LINK ${onnxruntime_real} ${CMAKE_BINARY_DIR}/lib/mayfly/libonnxruntime.so.1 SYMBOLIC)
install(FILES ${onnxruntime_real} DESTINATION ${CMAKE_INSTALL_LIBDIR}/mayfly RENAME libonnxruntime.so.1)
install(FILES ${CMAKE_SOURCE_DIR}/.deps/onnxruntime/LICENSE ${CMAKE_SOURCE_DIR}/.deps/onnxruntime/ThirdPartyNotices.txt
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/onnxruntime OPTIONAL)

# These go into jails with their folder, where a link would lead nowhere.
foreach(library ${ARROW_LIBRARY} ${PARQUET_LIBRARY})
  get_filename_component(name ${library} NAME)
  file(COPY_FILE ${library} ${CMAKE_BINARY_DIR}/lib/mayfly/batch/${name} ONLY_IF_DIFFERENT)
endforeach()
install(FILES ${ARROW_LIBRARY} ${PARQUET_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR}/mayfly/batch)
install(FILES ${CMAKE_SOURCE_DIR}/.deps/arrow/LICENSE.txt ${CMAKE_SOURCE_DIR}/.deps/arrow/NOTICE.txt
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/arrow)

# Trainers. Of Faiss and cmfrec there are archives, so only what is called comes along; XGBoost is opened at
# run time. Only libmayfly-train.so has them.
find_path(LIBLINEAR_INCLUDE linear.h REQUIRED)
find_library(LIBLINEAR_LIBRARY linear REQUIRED)
find_path(FAISS_INCLUDE faiss/Clustering.h REQUIRED)
find_library(FAISS_ARCHIVE libfaiss.a REQUIRED)
find_library(CMFREC_ARCHIVE libcmfrec.a PATHS ${CMAKE_SOURCE_DIR}/.deps/cmfrec/lib REQUIRED NO_DEFAULT_PATH)
find_library(LAPACK_LIBRARY lapack REQUIRED)
find_library(BLAS_LIBRARY blas REQUIRED)
add_library(trainers INTERFACE)
target_include_directories(trainers SYSTEM INTERFACE ${LIBLINEAR_INCLUDE} ${FAISS_INCLUDE})
target_link_libraries(trainers INTERFACE ${FAISS_ARCHIVE} ${CMFREC_ARCHIVE} ${LIBLINEAR_LIBRARY} ${LAPACK_LIBRARY} ${BLAS_LIBRARY} gomp)
find_file(XGBOOST_LIBRARY libxgboost.so PATHS ${CMAKE_SOURCE_DIR}/.deps/xgboost/xgboost/lib REQUIRED NO_DEFAULT_PATH)
file(GLOB XGBOOST_OPENMP ${CMAKE_SOURCE_DIR}/.deps/xgboost/xgboost_cpu.libs/*)
set(train_folder ${CMAKE_BINARY_DIR}/lib/mayfly/train)
file(MAKE_DIRECTORY ${train_folder}/xgboost/lib ${train_folder}/xgboost_cpu.libs)
file(COPY_FILE ${XGBOOST_LIBRARY} ${train_folder}/xgboost/lib/libxgboost.so ONLY_IF_DIFFERENT)
foreach(library ${XGBOOST_OPENMP})
  get_filename_component(name ${library} NAME)
  file(COPY_FILE ${library} ${train_folder}/xgboost_cpu.libs/${name} ONLY_IF_DIFFERENT)
endforeach()
install(FILES ${XGBOOST_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR}/mayfly/train/xgboost/lib)
install(FILES ${XGBOOST_OPENMP} DESTINATION ${CMAKE_INSTALL_LIBDIR}/mayfly/train/xgboost_cpu.libs)
install(FILES ${CMAKE_SOURCE_DIR}/.deps/xgboost/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR}/xgboost)
install(FILES ${CMAKE_SOURCE_DIR}/.deps/cmfrec/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR}/cmfrec)
