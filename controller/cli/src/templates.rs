//! Templates.

use vidi_proto::v1::template_service_client::TemplateServiceClient;
use vidi_proto::v1::{
    DeleteTemplateRequest, ListTemplatesRequest, ListTemplatesResponse, Template,
};

use crate::arguments::{Deletion, Global, TemplateCommand};
use crate::ask::confirm;
use crate::connect::{all_pages, connect};
use crate::output::{Table, done, short, show};
use crate::template::TemplateFolder;
use crate::when::since;

/// Letters of a digest that are shown.
const DIGEST_CHARS: usize = 19;

/// Templates.
pub(crate) async fn template(global: &Global, command: TemplateCommand) -> anyhow::Result<()> {
    let parent = format!("tenants/{}", global.tenant);
    match command {
        TemplateCommand::Create { name, from, display_name } => {
            let folder = TemplateFolder::open(&from)?;
            let display_name = display_name.unwrap_or_else(|| folder.name.clone());
            let api = connect(global).await?;
            let template = folder.upload(api, parent, name, display_name).await?;
            show(global.output, "Template", &template, |one| table(std::slice::from_ref(one)))
        }
        TemplateCommand::List => {
            let mut client = TemplateServiceClient::new(connect(global).await?);
            let templates = all_pages(async |page_token| {
                let parent = parent.clone();
                let request = ListTemplatesRequest { parent, page_size: 0, page_token };
                let page = client.list_templates(request).await?.into_inner();
                Ok((page.templates, page.next_page_token))
            })
            .await?;
            let all = ListTemplatesResponse { templates, next_page_token: String::new() };
            show(global.output, "ListTemplatesResponse", &all, |all| table(&all.templates))
        }
        TemplateCommand::Delete(Deletion { name, yes }) => {
            confirm(yes, &format!("All versions of the template {name} are deleted."))?;
            let mut client = TemplateServiceClient::new(connect(global).await?);
            let full = format!("{parent}/templates/{name}");
            let request = DeleteTemplateRequest { name: full, etag: String::new() };
            client.delete_template(request).await?;
            done(global.output, &format!("template {name} deleted"))
        }
    }
}

fn table(templates: &[Template]) -> Table {
    let mut table = Table::new(["TEMPLATE", "NAME", "VERSION", "OF", "MEMORY", "CPUS"]);
    for template in templates {
        let version = template.latest.clone().unwrap_or_default();
        let guest = version.manifest.unwrap_or_default().guest.unwrap_or_default();
        let age = since(version.create_time.as_ref());
        table.row([
            short(&template.name),
            template.display_name.clone(),
            version.digest.chars().take(DIGEST_CHARS).collect(),
            if age.is_empty() { age } else { format!("{age} ago") },
            format!("{} MiB", guest.memory_mib),
            guest.vcpus.to_string(),
        ]);
    }
    table
}
