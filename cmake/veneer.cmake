# What every target shares, and the functions that declare the parts of the house.

add_library(veneer_flags INTERFACE)
target_compile_options(veneer_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast
  -Wnon-virtual-dtor -Woverloaded-virtual -Wnull-dereference -Wundef -Wcast-qual -Wextra-semi
  -Werror -fno-strict-aliasing -fstack-protector-strong
  # What the stable sort of libstdc++ 12 is made of.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>)
target_compile_definitions(veneer_flags INTERFACE _GLIBCXX_ASSERTIONS _GNU_SOURCE)
target_include_directories(veneer_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)

if(VENEER_SANITIZE)
  target_compile_options(veneer_flags INTERFACE
    -fsanitize=${VENEER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
    # Half the time to build; and g++ guesses at uninitialised and null values in what a sanitizer
    # inserts.
    $<$<CXX_COMPILER_ID:GNU>:-O1 -g1 -Wno-maybe-uninitialized -Wno-null-dereference>)
  target_link_options(veneer_flags INTERFACE -fsanitize=${VENEER_SANITIZE})
endif()
# veneer_unite(sources target SOURCES): sources is SOURCES or, with VENEER_UNITY, files that
# include eight of them each, so that their headers are read once: the lint and the sanitizers,
# whose trees are built whole, take half the time. File-level names must differ in a directory,
# then. The static analyzer looks into included sources only below a name that begins with
# UnifiedSource (clang's AnalysisManager.cpp), which CMake's own UNITY_BUILD has not.
set(VENEER_UNITED 8)
function(veneer_unite out target)
  set(sources ${ARGN})
  if(NOT VENEER_UNITY)
    set(${out} ${sources} PARENT_SCOPE)
    return()
  endif()
  set(united)
  while(sources)
    list(LENGTH united number)
    set(text)
    list(SUBLIST sources 0 ${VENEER_UNITED} batch)
    foreach(source IN LISTS batch)
      list(POP_FRONT sources)
      string(APPEND text "// NOLINTNEXTLINE(bugprone-suspicious-include)\n"
        "#include \"${CMAKE_CURRENT_SOURCE_DIR}/${source}\"\n")
    endforeach()
    set(file ${CMAKE_CURRENT_BINARY_DIR}/UnifiedSource_${target}_${number}.cc)
    file(CONFIGURE OUTPUT ${file} CONTENT "${text}" @ONLY)
    list(APPEND united ${file})
  endwhile()
  set(${out} ${united} PARENT_SCOPE)
endfunction()

if(VENEER_UNITY)
  # g++ takes what a source includes for a header.
  target_compile_options(veneer_flags INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()

if(VENEER_FUZZ)
  target_compile_options(veneer_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Half of what a verb takes would be the loading of shared libraries, so a program that sets
# STATIC_LIBRARIES has Debian's archives instead. veneerd does not: gRPC brings the same libraries,
# shared.
#
# veneer_library(crypto OpenSSL::Crypto ARCHIVES crypto): declares veneer_use_crypto, which is
# either.
function(veneer_library name shared)
  cmake_parse_arguments(arg "" "" "ARCHIVES" ${ARGN})
  set(archives)
  foreach(archive IN LISTS arg_ARCHIVES)
    if(TARGET ${archive})
      list(APPEND archives ${archive})
      continue()
    endif()
    find_library(VENEER_ARCHIVE_${archive} lib${archive}.a REQUIRED)
    list(APPEND archives ${VENEER_ARCHIVE_${archive}})
  endforeach()
  list(JOIN archives "$<SEMICOLON>" archives)
  add_library(veneer_use_${name} INTERFACE)
  target_link_libraries(veneer_use_${name} INTERFACE
    "$<IF:$<BOOL:$<TARGET_PROPERTY:STATIC_LIBRARIES>>,${archives},${shared}>")
endfunction()

# Debian has no archive of fmt.
add_library(veneer_fmt STATIC ${PROJECT_SOURCE_DIR}/cmake/fmt.cc)
veneer_library(fmt fmt::fmt ARCHIVES veneer_fmt)

# Tests need not be fast, and are half of what is compiled. With this, and with the headers that all
# have compiled once, they take a third of the time. (g++ guesses at null values with -O1; ccache
# wants the last.)
add_library(veneer_test_flags INTERFACE)
target_compile_options(veneer_test_flags INTERFACE
  -O1 -g1 -pthread $<$<CXX_COMPILER_ID:GNU>:-Wno-null-dereference -fpch-preprocess>)
function(veneer_test_code target)
  target_link_libraries(${target} PRIVATE
    veneer_flags veneer_test_flags veneer_use_fmt Threads::Threads GTest::gtest)
endfunction()
add_library(veneer_test_headers OBJECT ${PROJECT_SOURCE_DIR}/tests/support/headers.cc)
veneer_test_code(veneer_test_headers)
target_precompile_headers(veneer_test_headers PRIVATE
  <gtest/gtest.h> <fmt/format.h> <algorithm> <functional> <map> <memory> <string> <thread> <vector>)

# veneer_test_program(name SOURCES ... LINK ...): a GoogleTest program.
function(veneer_test_program target)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${target} ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE ${arg_LINK} GTest::gtest_main)
  veneer_test_code(${target})
  target_precompile_headers(${target} REUSE_FROM veneer_test_headers)
endfunction()

# veneer_test_library(name SOURCES ... LINK ...): what several of these programs share.
function(veneer_test_library target)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(${target} STATIC ${arg_SOURCES})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PUBLIC ${arg_LINK})
  veneer_test_code(${target})
  target_precompile_headers(${target} REUSE_FROM veneer_test_headers)
endfunction()

# veneer_module(base SOURCES error.cc ... TESTS error_test.cc ... LINK stream veneer_use_crypto ...)
# One directory of src/ is one static library, veneer_<name>; its unit tests are one executable,
# <name>_test, which needs no root. A LINK entry that names another directory means that
# directory's library.
function(veneer_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;TESTS;LINK" ${ARGN})
  set(links)
  foreach(link IN LISTS arg_LINK)
    if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/src/${link})
      list(APPEND links veneer_${link})
    else()
      list(APPEND links ${link})
    endif()
  endforeach()
  veneer_unite(sources ${name} ${arg_SOURCES})
  add_library(veneer_${name} STATIC ${sources})
  target_link_libraries(veneer_${name} PUBLIC veneer_flags veneer_use_fmt Threads::Threads ${links})
  if(arg_TESTS)
    veneer_test_program(${name}_test SOURCES ${arg_TESTS} LINK veneer_${name})
    add_test(NAME unit.${name} COMMAND ${name}_test)
    set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 120)
  endif()
endfunction()

# veneer_root_test(suite.overlay SOURCES ... LINK ...): a GoogleTest program that needs root and
# real mounts.
# It is run in a mount namespace of its own, so that nothing it mounts outlives it; with SHARDS n,
# as n tests (name.0, ...) of a part of its cases each, at once if ctest runs several. SLOW ones are
# left out under the sanitizers.
function(veneer_root_test name)
  cmake_parse_arguments(arg "SLOW" "TIMEOUT;SHARDS" "SOURCES;LINK" ${ARGN})
  set(label root)
  if(arg_SLOW)
    set(label slow)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  string(REPLACE "." "_" target ${name}_test)
  veneer_test_program(${target} SOURCES ${arg_SOURCES} LINK ${arg_LINK})
  if(NOT arg_SHARDS)
    set(arg_SHARDS 1)
  endif()
  math(EXPR last "${arg_SHARDS} - 1")
  foreach(shard RANGE ${last})
    set(shard_name ${name})
    if(arg_SHARDS GREATER 1)
      set(shard_name ${name}.${shard})
    endif()
    add_test(NAME ${shard_name}
      COMMAND unshare --mount --propagation private $<TARGET_FILE:${target}>)
    set_tests_properties(${shard_name} PROPERTIES LABELS ${label} TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${arg_SHARDS};GTEST_SHARD_INDEX=${shard}")
  endforeach()
endfunction()
