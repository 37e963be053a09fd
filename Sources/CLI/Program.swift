import ArgumentParser
import Glibc

/// The program `switchover`.
@main
enum Program {
  static func main() {
    do {
      var command = try SwitchoverCommand.parseAsRoot()
      try command.run()
    } catch let failure as CommandFailure {
      if let text = failure.text { writeAll("switchover: \(text)\n", to: STDERR_FILENO) }
      exit(failure.status)
    } catch {
      // Help and version come this way too; they are no failures.
      let isFailure = SwitchoverCommand.exitCode(for: error) != .success
      let text = SwitchoverCommand.fullMessage(for: error)
      writeAll(text + "\n", to: isFailure ? STDERR_FILENO : STDOUT_FILENO)
      exit(isFailure ? ExitStatus.nothingStarted.rawValue : 0)
    }
  }
}

/// The end of a command that did not do what it was asked.
struct CommandFailure: Error, Equatable {
  /// The process's exit status.
  var status: Int32
  /// What to tell the person on standard error, or nil when it has been told.
  var text: String?

  /// Something on this machine, before anything was started.
  init(local text: String) {
    self.init(.nothingStarted, text)
  }

  init(_ status: ExitStatus, _ text: String? = nil) {
    self.init(status: status.rawValue, text: text)
  }

  init(status: Int32, text: String?) {
    self.status = status
    self.text = text
  }
}
