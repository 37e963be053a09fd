import DemoGuest
import QMP

/// What one side of a pair said in a script, without what must differ from run to run.
struct Trace: Equatable, Sendable {
  var replies: [String] = []
  var events: [String] = []

  mutating func answered(_ command: String, _ value: JSONValue) {
    replies.append("\(command): \(Self.essence(of: value, to: command))")
  }

  mutating func refused(_ command: String, errorClass: String, text: String) {
    replies.append("\(command): \(errorClass): \(text)")
  }

  mutating func missed(_ text: String) { replies.append("missed: \(text)") }

  /// The events of a side, in order.
  mutating func told(_ list: [(name: String, data: JSONValue)]) {
    var jobs: [(id: String, status: String)] = []
    for event in list {
      guard let line = Self.essence(of: event, &jobs) else { continue }
      // QEMU repeats an I/O error as often as the guest's device asks again, and counts its passes.
      if line == events.last && line.hasPrefix("BLOCK_IO_ERROR") { continue }
      if line == "MIGRATION_PASS" && events.contains(line) { continue }
      events.append(line)
    }
  }

  // MARK: - Replies

  private static func essence(of value: JSONValue, to command: String) -> String {
    switch command {
    case "query-version": return text(value["qemu"] ?? .null)
    case "query-migrate":
      let names = (value.object.map { $0.map(\.name) } ?? []).sorted()
        .filter { !["error-desc", "expected-downtime", "ram"].contains($0) }
      return "\(value["status"]?.string ?? "none"), \(names), ram \(value["ram"] != nil)"
    case "query-block-jobs", "query-jobs":
      return list(
        value,
        [
          "device", "id", "status", "ready", "type", "error", "auto-dismiss", "actively-synced",
        ])
    case "query-yank":
      let instances = (value.array ?? []).filter { $0["type"]?.string != "chardev" }
      return instances.map(text).sorted().joined(separator: " ")
    default: return text(value)
    }
  }

  private static func list(_ value: JSONValue, _ members: [String]) -> String {
    (value.array ?? []).map { entry in
      members.compactMap { name in entry[name].map { "\(name)=\(text($0))" } }
        .joined(separator: " ")
    }.joined(separator: "; ")
  }

  // MARK: - Events

  private static func essence(
    of event: (name: String, data: JSONValue), _ jobs: inout [(id: String, status: String)]
  ) -> String? {
    switch event.name {
    case "MIGRATION": return "MIGRATION \(event.data["status"]?.string ?? "")"
    case "JOB_STATUS_CHANGE":
      let id = event.data["id"]?.string ?? ""
      let status = event.data["status"]?.string ?? ""
      // Each drain makes a ready job flap.
      if status == "standby" { return nil }
      let last = jobs.last { $0.id == id }?.status
      jobs.append((id, status))
      return last == status ? nil : "JOB_STATUS_CHANGE \(id) \(status)"
    case "BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR":
      let members = ["device", "type", "error", "operation", "action"]
      let parts = members.compactMap { name in
        event.data[name].map { "\(name)=\(text($0))" }
      }
      return "\(event.name) \(parts.joined(separator: " "))"
    case "BLOCK_IO_ERROR":
      return "BLOCK_IO_ERROR \(event.data["operation"]?.string ?? "") "
        + "\(event.data["action"]?.string ?? "")"
    case "GUEST_PANICKED": return "GUEST_PANICKED \(event.data["action"]?.string ?? "")"
    case "MIGRATION_PASS", "STOP", "RESUME", "POWERDOWN": return event.name
    case "SHUTDOWN", "RESET", "BLOCK_EXPORT_DELETED": return "\(event.name) \(text(event.data))"
    default: return event.name
    }
  }

  /// JSON with the members in the order of their names.
  private static func text(_ value: JSONValue) -> String {
    switch value {
    case .object(let object):
      let members = object.map { "\($0.name): \(text($0.value))" }.sorted()
      return "{\(members.joined(separator: ", "))}"
    case .array(let elements):
      // QEMU's lists of capabilities and the like have no order.
      return "[\(elements.map(text).sorted().joined(separator: ", "))]"
    default: return String(decoding: JSONText.encode(value), as: UTF8.self)
    }
  }
}

/// A pair of QEMUs that a script can be run against.
protocol ScriptedPair: AnyObject {
  /// Sends commands in one write and answers with the replies, in order; nil for one that never came.
  func type(_ side: Script.Side, _ commands: [(name: String, arguments: JSONObject)])
    -> [Result<JSONValue, QMPCommandError>?]
  /// Everything that a side has announced so far.
  func events(_ side: Script.Side) -> [(name: String, data: JSONValue)]
  /// Waits until a condition on a side's events holds.
  func wait(_ side: Script.Side, until condition: ([(name: String, data: JSONValue)]) -> Bool)
    -> Bool
  func waitForEnd(_ side: Script.Side) -> Bool
  /// Waits for a run state that no event announces.
  func waitForRunState(_ side: Script.Side, _ states: [String]) -> Bool
  func act(_ side: Script.Side, _ command: GuestCommand)
  func kill(_ side: Script.Side)
  var migrationAddress: String { get }
  var storagePath: String { get }
}
