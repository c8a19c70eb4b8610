# The flags of every target of ours.
add_library(mayfly_options INTERFACE)
target_compile_options(mayfly_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Werror -fno-omit-frame-pointer)
target_include_directories(mayfly_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/generated)
target_link_options(mayfly_options INTERFACE -fuse-ld=lld)

set(MAYFLY_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")
set(MAYFLY_FUZZ OFF CACHE BOOL "Link fuzz targets with libFuzzer instead of the corpus replayer")
set(MAYFLY_COVERAGE OFF CACHE BOOL "Instrument for llvm-cov")
if(MAYFLY_SANITIZE)
  # The vptr check asks the kernel through a pipe whether it may read an object; a jail makes no pipes,
  # so inside one it would take every object for a broken one.
  add_compile_options(-fsanitize=${MAYFLY_SANITIZE} -fno-sanitize-recover=all -fno-sanitize=vptr)
  add_link_options(-fsanitize=${MAYFLY_SANITIZE})
endif()
if(MAYFLY_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(MAYFLY_COVERAGE)
  add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
endif()

# add_component(name DEPS a b LIBS ext...) makes the library mayfly_<name> from the folder's
# *.cc, and from the files beside them:
#   *_test.cc        one doctest executable <name>_test, registered with ctest
#   *_fuzz.cc        one fuzz target each; its corpus (fuzz/corpus/<target>) is replayed as a test
#   *.h              each is compiled alone, so that a header never leans on its includer
# Testing helpers live in testing/*.cc and are linked into tests only.
function(add_component name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;TEST_DEPS;TEST_LIBS;EXCLUDE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc *.c)
  file(GLOB tests CONFIGURE_DEPENDS *_test.cc)
  file(GLOB fuzzers CONFIGURE_DEPENDS *_fuzz.cc)
  file(GLOB headers CONFIGURE_DEPENDS *.h)
  file(GLOB fakes CONFIGURE_DEPENDS testing/*.cc)
  list(REMOVE_ITEM sources ${tests} ${fuzzers})
  foreach(excluded IN LISTS ARG_EXCLUDE)
    list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${excluded})
  endforeach()

  string(REPLACE "/" "_" target ${name})
  set(deps ${ARG_DEPS})
  list(TRANSFORM deps PREPEND mayfly_)

  # Self-containment: one translation unit per header, compiled as part of the library.
  foreach(header IN LISTS headers)
    get_filename_component(stem ${header} NAME_WE)
    set(probe ${CMAKE_BINARY_DIR}/headers/${target}_${stem}.cc)
    file(RELATIVE_PATH included ${CMAKE_SOURCE_DIR}/src ${header})
    file(CONFIGURE OUTPUT ${probe} CONTENT "#include \"${included}\"\n")
    list(APPEND probes ${probe})
  endforeach()
  if(probes)
    add_library(mayfly_${target}_headers OBJECT EXCLUDE_FROM_ALL ${probes})
    target_link_libraries(mayfly_${target}_headers PRIVATE mayfly_options ${deps} ${ARG_LIBS})
    add_dependencies(mayfly_headers mayfly_${target}_headers)
  endif()

  if(sources)
    add_library(mayfly_${target} STATIC ${sources})
    target_link_libraries(mayfly_${target} PUBLIC mayfly_options ${deps} ${ARG_LIBS})
  else()
    add_library(mayfly_${target} INTERFACE)
    target_link_libraries(mayfly_${target} INTERFACE mayfly_options ${deps} ${ARG_LIBS})
  endif()

  if(fakes)
    add_library(mayfly_${target}_testing STATIC ${fakes})
    target_link_libraries(mayfly_${target}_testing PUBLIC mayfly_${target})
    set(own_fakes mayfly_${target}_testing)
    set_target_properties(mayfly_${target}_testing PROPERTIES UNITY_BUILD OFF)
  endif()

  if(tests)
    set(test_deps ${ARG_TEST_DEPS})
    list(TRANSFORM test_deps PREPEND mayfly_)
    add_executable(${target}_test ${tests} ${CMAKE_SOURCE_DIR}/cmake/test_main.cc)
    target_link_libraries(${target}_test PRIVATE mayfly_${target} ${own_fakes} ${test_deps} ${ARG_TEST_LIBS})
    # Where the sources of a library are compiled as one (presets asan, tsan, tidy), its tests are not:
    # their names are unique in a file only.
    set_target_properties(${target}_test PROPERTIES UNITY_BUILD OFF)
    add_test(NAME ${target} COMMAND ${target}_test)
    set_tests_properties(${target} PROPERTIES TIMEOUT 300 LABELS unit)
  endif()

  foreach(fuzzer IN LISTS fuzzers)
    get_filename_component(stem ${fuzzer} NAME_WE)
    if(MAYFLY_FUZZ)
      add_executable(${stem} ${fuzzer})
      target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
    else()
      add_executable(${stem} ${fuzzer} ${CMAKE_SOURCE_DIR}/cmake/replay_main.cc)
      add_test(NAME ${stem} COMMAND ${stem} ${CMAKE_SOURCE_DIR}/fuzz/corpus/${stem})
      set_tests_properties(${stem} PROPERTIES LABELS unit)
    endif()
    target_link_libraries(${stem} PRIVATE mayfly_${target})
  endforeach()
endfunction()

add_custom_target(mayfly_headers)
