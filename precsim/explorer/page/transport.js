// The way from the page to Python: a server of this machine.
//
// Another transport is another file with the same two functions, in the place of this one:
//   connect(say)  resolves to the answer to "about", once Python can answer; say(text) tells
//                 how far it is
//   ask(request)  resolves to the answer to a request, a JSON object with the name of a question;
//                 an answer that was refused has one field, error

export async function connect(say) {
  say("Asking Python on this machine.");
  return { ...(await ask({ question: "about" })), where: "on this machine" };
}

export async function ask(request) {
  try {
    const response = await fetch("ask", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    return await response.json();
  } catch {
    return { error: "Python does not answer; is precsim explore still running?" };
  }
}
