// What a call fails with.
#pragma once

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer::test {

// The code of the Error that it throws; one that throws none fails the test.
template <typename Call>
Code code_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return Code::io;
}

}  // namespace veneer::test
