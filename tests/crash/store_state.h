// A store as the sweeps see it.
#pragma once

#include <functional>

#include "store/check.h"
#include "store/store.h"
#include "tests/crash/sweep.h"

namespace veneer::test {

// <scratch>/root and <scratch>/run. Preparations need not be durable.
StoreOptions store_options(const Scratch& scratch, Form form, bool is_volatile = true);

// Nobody else has the store, so nobody is between a removal's commit and its rename.
inline const CheckOptions kAlone{
    .is_fast = false, .orphan_patience = {}, .layers = {}, .progress = {}};

// Opens the store and tells its rows, the files of snapshots, what is mounted, and the damage that
// `check` finds. Expects that nothing else is on disk (after a kill without anyone's asking), and
// that nothing else is mounted.
State observe_store(const Scratch& scratch, Form form, bool was_killed);

// What a reboot does: no mounts are left, and <run> is empty.
void reboot(const Scratch& scratch);

// sweep() over a store that is looked at with observe_store(), and rebooted in the end.
struct SweptStore {
  std::function<void(const Scratch&)> prepare;
  std::function<void(const Scratch&, const std::function<void()>& arm)> operate;
};
void sweep_store(Form form, const SweptStore& swept);

}  // namespace veneer::test
