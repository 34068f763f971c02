// Passkeys: a button asks the browser for a credential and sends it with its form. Options come from the page, or, for
// a login without a name, from the address of the form.

const FAILED = document.querySelector("[data-passkey-failed]");

function asked(kind) {
  return JSON.parse(document.getElementById("passkey-options").textContent)[kind].publicKey;
}

async function create(form) {
  const options = asked("creation_options");
  if (form.elements.passwordless?.checked) {
    Object.assign(options.authenticatorSelection, {
      residentKey: "required", requireResidentKey: true, userVerification: "required",
    });
  }
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  return navigator.credentials.create({ publicKey });
}

async function use(options) {
  return navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
}

async function logIn(form) {
  const response = await fetch(form.action, { headers: { Accept: "application/json" } });
  return use((await response.json()).request_options.publicKey);
}

const WAYS = { add: create, use: () => use(asked("request_options")), "log-in": logIn };

for (const button of document.querySelectorAll("[data-passkey]")) {
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    FAILED.hidden = true;
    try {
      const credential = await WAYS[button.dataset.passkey](button.form);
      button.form.elements.credential.value = JSON.stringify(credential.toJSON());
      button.form.submit();
    } catch (error) {
      console.info(error);
      FAILED.hidden = false;
    }
  });
  button.disabled = false; // Before, its form would be sent without a passkey.
}
