// Who threads are, in words and in JSON, and the options that choose threads by it: --cgroup, --container, --pod.
#pragma once

#include <set>
#include <string>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"

namespace hindcast::server::cli {

/// Adds the three options.
void add_who_flags(CLI::App& sub, Request& request);

/// A thread that was, or may have been, at some time in what all of the given options name; true without any.
bool is_meant(const ThreadRow& thread, const Request& request);
/// The options as they were typed, for messages; empty without any.
std::string who_text(const Request& request);
/// Errors: not_found when the options name nobody, with whom there is.
Result<void> somebody_is_meant(const Overview& overview, const Request& request);

/// "redis.service"; "redis.service -> pod 1f2e3d4c" for one that moved, or is either; "-" where nothing is known, or no more
/// than the root cgroup.
std::string where_text(const ThreadRow& thread);

/// Every cgroup and namespace that the thread had, with how that is known.
Json json_cgroups(const ThreadRow& thread);
Json json_namespaces(const ThreadRow& thread);
Json json_ids(const ThreadRow& thread);

/// For each thread that `shown` tells: its ids, its cgroups with the time and how that is known, its namespaces.
void print_identities(Output& out, const Overview& overview, const std::function<bool(const ThreadRow&)>& shown);

}  // namespace hindcast::server::cli
