import QMP

/// What each release calls its things: capabilities, parameters and their defaults, commands.
enum QEMUVocabulary {
  static func capabilities(of release: SimulatedRelease) -> [(name: String, isOn: Bool)] {
    let old = [
      "xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "events",
      "postcopy-ram", "x-colo", "release-ram", "block", "return-path", "pause-before-switchover",
      "multifd", "dirty-bitmaps", "postcopy-blocktime", "late-block-activate", "x-ignore-shared",
      "validate-uuid", "background-snapshot", "zero-copy-send", "postcopy-preempt",
    ]
    let names =
      release == .qemu72
      ? old
      : old.filter { $0 != "compress" && $0 != "block" }
        + ["switchover-ack", "dirty-limit", "mapped-ram"]
    return names.map { ($0, false) }
  }

  static func parameters(of release: SimulatedRelease) -> JSONObject {
    var parameters: JSONObject = [
      "cpu-throttle-tailslow": false, "xbzrle-cache-size": 67_108_864,
      "cpu-throttle-initial": 20, "announce-max": 550, "multifd-channels": 2,
      "multifd-zstd-level": 1, "announce-initial": 50, "downtime-limit": 300, "tls-authz": "",
      "multifd-compression": "none", "announce-rounds": 5, "announce-step": 100, "tls-creds": "",
      "multifd-zlib-level": 1, "max-cpu-throttle": 99, "max-postcopy-bandwidth": 0,
      "tls-hostname": "", "throttle-trigger-threshold": 50, "max-bandwidth": 134_217_728,
      "x-checkpoint-delay": 20_000, "cpu-throttle-increment": 10,
    ]
    let own: JSONObject =
      switch release {
      case .qemu72:
        [
          "decompress-threads": 2, "compress-threads": 8, "compress-level": 1,
          "block-incremental": false, "compress-wait-thread": true,
        ]
      case .qemu100:
        [
          "direct-io": false, "avail-switchover-bandwidth": 0, "zero-page-detection": "legacy",
          "multifd-qatzip-level": 1, "mode": "normal", "vcpu-dirty-limit": 1,
          "x-vcpu-dirty-limit-period": 1000,
        ]
      }
    for member in own { parameters[member.name] = member.value }
    return parameters
  }

  static func commands(of release: SimulatedRelease) -> [String] {
    let both = [
      "announce-self", "block-export-add", "block-export-del", "block-job-cancel",
      "block-job-set-speed", "blockdev-add", "blockdev-del", "blockdev-mirror", "closefd", "cont",
      "drive-mirror", "getfd", "job-cancel", "job-dismiss", "migrate", "migrate-continue",
      "migrate-incoming", "migrate-set-capabilities", "migrate-set-parameters", "migrate_cancel",
      "nbd-server-start", "nbd-server-stop",
      "qmp_capabilities", "qom-get", "query-block-exports", "query-block-jobs", "query-commands",
      "query-jobs", "query-memory-size-summary", "query-migrate", "query-migrate-capabilities",
      "query-migrate-parameters", "query-named-block-nodes", "query-qmp-schema", "query-status",
      "query-version", "query-yank", "quit", "stop", "system_powerdown", "system_reset", "yank",
    ]
    return release == .qemu72 ? both : both + ["block-job-change"]
  }

  /// Those that may be executed out of band.
  static let outOfBandCommands = ["migrate-pause", "migrate-recover", "query-yank", "yank"]
}
