#include "decode/workload.h"

#include <gtest/gtest.h>

namespace hindcast::decode {
namespace {

const std::string kId(64, 'a');
const std::string kUid = "1f2e3d4c-5b6a-7988-8776-655443322110";
const std::string kUnderscored = "1f2e3d4c_5b6a_7988_8776_655443322110";

Workload container(const std::string& runtime, const std::string& id) {
  Workload w;
  w.runtime = runtime;
  w.container = id;
  return w;
}

TEST(Workload, DockerBySystemdAndByCgroupfs) {
  Workload w = container("docker", kId);
  EXPECT_EQ(workload_of("/docker/" + kId), w);
  w.slice = "system.slice";
  EXPECT_EQ(workload_of("/system.slice/docker-" + kId + ".scope"), w);
}

TEST(Workload, WhatRunsDeeperInsideOfAContainerIsStillTheContainers) {
  Workload w = container("podman", kId);
  w.slice = "machine.slice";
  EXPECT_EQ(workload_of("/machine.slice/libpod-" + kId + ".scope/container"), w);
  EXPECT_EQ(workload_of("/machine.slice/libpod-" + kId + ".scope/init.scope"), w);
}

TEST(Workload, AContainersMonitorIsNotInTheContainer) {
  const Workload w = workload_of("/machine.slice/libpod-conmon-" + kId + ".scope");
  EXPECT_EQ(w.container, "");
  EXPECT_EQ(w.unit, "libpod-conmon-" + kId + ".scope");
  EXPECT_EQ(workload_of("/lxc.monitor.web").container, "");
}

TEST(Workload, PodsOfTheSystemdDriver) {
  Workload w = container("containerd", kId);
  w.pod = kUid;
  w.qos = "burstable";
  EXPECT_EQ(workload_of("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + kUnderscored +
                        ".slice/cri-containerd-" + kId + ".scope"),
            w);
  w.runtime = "cri-o";
  w.qos = "guaranteed";
  EXPECT_EQ(workload_of("/kubepods.slice/kubepods-pod" + kUnderscored + ".slice/crio-" + kId + ".scope"), w);
}

TEST(Workload, PodsOfTheCgroupfsDriver) {
  Workload w = container("", kId);  // which runtime made it the path does not tell
  w.pod = kUid;
  w.qos = "besteffort";
  EXPECT_EQ(workload_of("/kubepods/besteffort/pod" + kUid + "/" + kId), w);
  w.qos = "guaranteed";
  EXPECT_EQ(workload_of("/kubepods/pod" + kUid + "/" + kId), w);
}

TEST(Workload, AStaticPodsUidHasNoDashes) {
  const std::string uid(32, 'b');
  const Workload w = workload_of("/kubepods/burstable/pod" + uid + "/" + kId);
  EXPECT_EQ(w.pod, uid);
  EXPECT_EQ(w.container, kId);
}

TEST(Workload, AKubeletsOwnNameBeforeKubepods) {
  const Workload w = workload_of(
      "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" +
      kUnderscored + ".slice/cri-containerd-" + kId + ".scope");
  EXPECT_EQ(w.pod, kUid);
  EXPECT_EQ(w.qos, "besteffort");
  EXPECT_EQ(w.container, kId);
}

TEST(Workload, OfANodeInAContainerThePodInsideCounts) {
  const std::string inner(64, 'c');
  const Workload w = workload_of("/docker/" + kId + "/kubelet/kubepods/burstable/pod" + kUid + "/" + inner);
  EXPECT_EQ(w.container, inner);
  EXPECT_EQ(w.pod, kUid);
}

TEST(Workload, ContainerdWithTheOtherDriversNames) {
  const Workload w = workload_of("/system.slice/containerd.service/kubepods-burstable-pod" + kUnderscored +
                                 ".slice:cri-containerd:" + kId);
  EXPECT_EQ(w.pod, kUid);
  EXPECT_EQ(w.qos, "burstable");
  EXPECT_EQ(w.container, kId);
  EXPECT_EQ(w.runtime, "containerd");
}

TEST(Workload, APodsOwnCgroupHasNoContainer) {
  const Workload w = workload_of("/kubepods/burstable/pod" + kUid);
  EXPECT_EQ(w.pod, kUid);
  EXPECT_EQ(w.container, "");
}

TEST(Workload, MachinesOfLxcNspawnAndLibvirt) {
  EXPECT_EQ(workload_of("/lxc/web"), container("lxc", "web"));
  EXPECT_EQ(workload_of("/lxc.payload.web/system.slice/nginx.service"), container("lxc", "web"));
  EXPECT_EQ(workload_of("/machine.slice/systemd-nspawn@build\\x2dbox.service/payload").container, "build-box");
  EXPECT_EQ(workload_of("/machine.slice/machine-debian.scope").runtime, "nspawn");
  EXPECT_EQ(workload_of("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope").runtime, "qemu");
}

TEST(Workload, SystemdUnits) {
  Workload w;
  w.unit = "redis.service";
  w.slice = "system.slice";
  EXPECT_EQ(workload_of("/system.slice/redis.service"), w);
  w.unit = "session-3.scope";
  w.slice = "user-1000.slice";
  EXPECT_EQ(workload_of("/user.slice/user-1000.slice/session-3.scope"), w);
}

TEST(Workload, NamesThatOnlyLookAlikeTellNothing) {
  const std::vector<std::string> paths{"/",
                                       "/docker",
                                       "/docker-abc.slice",
                                       "/kubepods",
                                       "/docker/" + std::string(63, 'a'),
                                       "/docker/" + std::string(64, 'G'),
                                       "/podium",
                                       "/pod" + kUid};
  for (const std::string& path : paths)
    EXPECT_TRUE(workload_of(path).container.empty() && workload_of(path).pod.empty()) << path;
}

TEST(CgroupText, LinesOfBothVersions) {
  const auto lines = parse_cgroup_text("9:name=systemd:/a\n4:cpu,cpuacct:/x:y\n0::/b\nrubbish\n7:pids\n:::\n");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].controllers, "cpu,cpuacct");
  EXPECT_EQ(lines[1].path, "/x:y");
  EXPECT_EQ(lines[2].hierarchy, 0u);
  EXPECT_EQ(lines[2].path, "/b");
}

TEST(CgroupText, TheLineThatTellsMostIsTaken) {
  const std::string text = "4:memory:/docker/" + kId + "\n9:name=systemd:/system.slice/x.service\n0::/\n";
  const auto lines = parse_cgroup_text(text);
  EXPECT_EQ(telling_line(lines)->controllers, "memory");
  const auto version_2_first = parse_cgroup_text("3:cpu:/a.service\n0::/a.service\n");
  EXPECT_EQ(telling_line(version_2_first)->hierarchy, 0u);
  EXPECT_EQ(telling_line({}), nullptr);
}

TEST(ShortName, IsAFewWords) {
  const auto name = [](const std::string& path) { return short_name(workload_of(path), path); };
  EXPECT_EQ(name("/kubepods/burstable/pod" + kUid + "/" + kId), "pod 1f2e3d4c / container aaaaaaaaaaaa");
  EXPECT_EQ(name("/docker/" + kId), "container aaaaaaaaaaaa (docker)");
  EXPECT_EQ(name("/system.slice/redis.service"), "redis.service");
  EXPECT_EQ(name("/jobs/7"), "/jobs/7");
}

}  // namespace
}  // namespace hindcast::decode
