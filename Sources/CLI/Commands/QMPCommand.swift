import ArgumentParser
import CSwitchover
import Glibc

/// `switchover qmp`
struct QMPCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "qmp",
    abstract: "Run commands on a QEMU's monitor, or follow its events.",
    discussion: """
      Each COMMAND may be followed by its arguments, a JSON object. Without a command, lines of the \
      same form are read from standard input; empty lines and lines that begin with '#' are passed \
      over. What a command returns is printed as JSON, one line each, in order. The first refusal \
      ends it (typed in on a terminal, the next line goes on) and is told on standard error.

      With --events the monitor's events follow, one JSON object a line in QEMU's own form, until \
      Ctrl-C, --count of them, or the monitor's end.

      \(HelpText.addresses)

      EXAMPLES
        switchover qmp /run/vm.qmp query-status
        switchover qmp /run/vm.qmp stop query-status cont
        switchover qmp /run/vm.qmp human-monitor-command \\
            '{"command-line":"info qtree"}'
        switchover qmp /run/vm.qmp --events --count 1
        switchover qmp /run/vm.qmp < commands

      EXIT STATUS
         0  everything was answered, and events were followed as asked
         1  wrong usage, or the monitor is busy, unreachable or gone
         2  QEMU refused a command
         3  no answer in time, or the connection ended: the outcome is unknown
      """)

  @Argument(help: ArgumentHelp("The QMP monitor.", valueName: "address"))
  var address: String

  @Argument(
    help: ArgumentHelp(
      "Commands, each perhaps followed by a JSON object.", valueName: "command [json]"))
  var words: [String] = []

  @Flag(help: "Follow the monitor's events, after the commands.")
  var events = false

  @Option(help: ArgumentHelp("End after so many events.", valueName: "n"))
  var count: UInt?

  @Option(
    help: ArgumentHelp(
      "How long connecting, and each command, may take: 500ms, 10s, 2m; at most 10m.",
      valueName: "time"))
  var timeout = TimeSpan(milliseconds: 10_000)

  @OptionGroup var ssh: SSHArguments

  func validate() throws {
    _ = try commands()
    guard (1...600_000).contains(timeout.milliseconds) else {
      throw ValidationError("--timeout is 1ms to 10m.")
    }
    guard count == nil || events else { throw ValidationError("--count needs --events.") }
  }

  func run() throws {
    let signals = events ? try SignalPipe() : nil
    let commands = try commands()
    do {
      let loop = try Loop(ssh: ssh.plan)
      let client = try MonitorClient(
        address, timeoutMilliseconds: Int32(clamping: timeout.milliseconds), in: loop)
      for command in commands { try execute(command, client) }
      if let signals {
        try follow(loop, signals)
      } else if commands.isEmpty {
        try executeLines(client)
      }
    } catch let error as LibraryError {
      throw CommandFailure(status: 1, text: error.text)
    }
  }

  /// The commands among the arguments.
  private func commands() throws -> [MonitorCommand] {
    do {
      return try MonitorCommand.parse(words)
    } catch {
      throw ValidationError(error.text)
    }
  }

  private func execute(_ command: MonitorCommand, _ client: MonitorClient) throws {
    do {
      writeAll(try client.execute(command) + "\n", to: STDOUT_FILENO)
    } catch let error as LibraryError {
      throw CommandFailure(status: Self.status(of: error), text: error.text)
    }
  }

  /// The exit status of a command that was not answered with a value.
  static func status(of error: LibraryError) -> Int32 {
    switch swo_code(rawValue: error.code) {
    case .SWO_E_QMP: 2
    case .SWO_E_TIMEOUT, .SWO_E_LOST, .SWO_E_INTERRUPTED, .SWO_E_CLOSED: 3
    default: 1
    }
  }

  private func executeLines(_ client: MonitorClient) throws {
    let isConversation = isatty(STDIN_FILENO) == 1
    func prompt() {
      if isConversation { writeAll("qmp> ", to: STDERR_FILENO) }
    }
    prompt()
    while let line = readLine() {
      do {
        if let command = try MonitorCommand(line: line) { try execute(command, client) }
      } catch let error as MonitorCommand.SyntaxError {
        guard isConversation else { throw CommandFailure(status: 1, text: error.text) }
        writeAll(error.text + "\n", to: STDERR_FILENO)
      } catch let failure as CommandFailure where isConversation && failure.status < 3 {
        writeAll((failure.text ?? "") + "\n", to: STDERR_FILENO)
      }
      prompt()
    }
  }

  /// Prints events until something ends it.
  private func follow(_ loop: Loop, _ signals: SignalPipe) throws {
    var left = count ?? .max
    while left > 0 {
      switch try loop.nextEvent() {
      case .monitorEvent(let name, let data, let microseconds):
        let line = Self.line(name, data, microseconds)
        guard writeAll(line + "\n", to: STDOUT_FILENO) else { return }
        left -= 1
      case .monitorClosed(_, let text):
        throw CommandFailure(status: 1, text: text)
      case .some:
        break
      case nil:
        let ready = waitForDescriptors(
          [(loop.descriptor, Int16(POLLIN)), (signals.descriptor, Int16(POLLIN))],
          timeoutMilliseconds: -1)
        if signals.takeArrived().contains(where: SignalPipe.interruptions.contains) { return }
        if ready[0] { try loop.dispatch() }
      }
    }
  }

  /// An event in QEMU's own form.
  static func line(_ name: String, _ data: String, _ microseconds: Int64) -> String {
    let timestamp = JSONValue.object([
      ("seconds", .integer(microseconds / 1_000_000)),
      ("microseconds", .integer(microseconds % 1_000_000)),
    ])
    let head = [("event", JSONValue.string(name))]
    let members = data.isEmpty ? head : head + [("data", .text(data))]
    return JSONValue.object((members + [("timestamp", timestamp)]).map { (name: $0, value: $1) })
      .line
  }
}

extension MonitorCommand {
  /// Words or a line that are no commands.
  struct SyntaxError: Error, Equatable {
    var text: String
  }

  /// Reads commands, each perhaps followed by a word that is a JSON object.
  static func parse(_ words: [String]) throws(SyntaxError) -> [MonitorCommand] {
    var commands: [MonitorCommand] = []
    for word in words {
      guard word.hasPrefix("{") else {
        commands.append(MonitorCommand(name: word))
        continue
      }
      guard let last = commands.indices.last, commands[last].arguments == nil else {
        throw SyntaxError(text: "a JSON object follows the command whose arguments it has: \(word)")
      }
      commands[last].arguments = word
    }
    return commands
  }

  /// Reads a line; nil where it is empty or a remark.
  init?(line: String) throws(SyntaxError) {
    func trimmed(_ text: Substring) -> Substring {
      var text = text.drop(while: \.isWhitespace)
      while text.last?.isWhitespace == true { text.removeLast() }
      return text
    }
    let line = trimmed(line[...])
    guard let first = line.first, first != "#" else { return nil }
    let name = line.prefix { !$0.isWhitespace && $0 != "{" }
    let arguments = trimmed(line.dropFirst(name.count))
    guard !name.isEmpty, arguments.isEmpty || arguments.hasPrefix("{") else {
      throw SyntaxError(text: "a line is a command, perhaps with a JSON object: \(line)")
    }
    self.init(name: String(name), arguments: arguments.isEmpty ? nil : String(arguments))
  }
}
